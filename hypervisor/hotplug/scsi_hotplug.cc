// HotplugControl's disks on the SCSI bus. They come and go with the controller's events, not by the
// board's slots: a disk that goes is gone at once, and the guest is told afterwards.
#include "base/log.h"
#include "hypervisor/hotplug/hotplug_control.h"
#include "hypervisor/vmm_devices.h"

namespace kumoi::hypervisor {

namespace {

Json place(const DiskConfig& disk) {
    return Json::object({{"device", disk.id}, {"target", *disk.scsi_target}});
}

}  // namespace

Result<Json> HotplugControl::add_scsi_disk(DiskConfig disk, Json source) {
    TRY(machine_.standstill([&] { return devices_.attach_scsi_disk(disk); }));
    source.set("target", *disk.scsi_target);
    Json& list = config_.source["disks"];
    if (!list.is_array()) {
        list = Json::array();
    }
    list.push_back(std::move(source));
    log_info("hotplug", "disk added", {{"disk", disk.id}, {"target", *disk.scsi_target}});
    machine_.event({"device_added", place(disk)});
    Json answer = place(disk);
    config_.disks.push_back(std::move(disk));
    return answer;
}

Result<void> HotplugControl::remove_scsi_disk(const std::string& id, const Answer& answer) {
    TRY(machine_.standstill([&] { return devices_.detach_scsi_disk(id); }));
    forget(id);
    log_info("hotplug", "disk removed", {{"disk", id}});
    machine_.event({"device_removed", Json::object({{"device", id}, {"requested", true}})});
    answer(Json::object({{"device", id}, {"state", "removed"}}));
    return {};
}

}  // namespace kumoi::hypervisor
