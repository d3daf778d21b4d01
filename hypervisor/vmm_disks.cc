// The part of Vmm that works on running disks. resize_disk: a larger disk, its driver is told by a
// configuration interrupt. Jobs: hypervisor/block/live.

#include "hypervisor/block/live/disk_control.h"
#include "hypervisor/disk_ownership.h"
#include "hypervisor/virtio/guest_disk.h"
#include "hypervisor/vmm.h"

namespace kumoi::hypervisor {

Result<Json> Vmm::resize_disk(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"disk", "size"}));
    GuestDisk* disk = TRY(devices_->disk(TRY(view.string("disk"))));
    const auto size = static_cast<uint64_t>(TRY(view.integer("size", {512, INT64_MAX})));
    TRY(disk->image().resize(size));
    return Json::object({{"size", disk->image().size()}});
}

void Vmm::create_disk_control() {
    DiskControl::Machine machine;
    machine.disk = [this](const std::string& id) -> Result<DiskImage*> {
        return &TRY(devices_->disk(id))->image();
    };
    machine.with_disk_still = [this](const std::string& id, const auto& run) {
        return with_disk_still(id, run);
    };
    machine.event = hooks_.event;
    machine.disk_moved = [this](const std::string& id, const std::string& path) {
        disk_moved(id, path);
    };
    disk_control_ =
        std::make_unique<DiskControl>(seams_.loop, seams_.files, seams_.clock, std::move(machine));
    disk_ownership_ =
        std::make_unique<DiskOwnership>([this] { return devices_->late_disks(config_); });
}

// The vCPUs are parked because the guest could reset the device meanwhile.
Result<void> Vmm::with_disk_still(const std::string& id, const std::function<Result<void>()>& run) {
    PciDevice* device = devices_->device_of_disk(id);
    if (device == nullptr) {
        return Error::not_found("there is no disk \"{}\"", id);
    }
    if (state_ == VmState::Created || state_ == VmState::Paused) {
        return run();  // nothing moves
    }
    return with_vcpus_parked([&] {
        device->pause();
        auto done = run();
        device->resume();
        return done;
    });
}

// A snapshot of the machine names the files of its disks.
void Vmm::disk_moved(const std::string& id, const std::string& path) {
    for (DiskConfig& disk : config_.disks) {
        if (disk.id == id) {
            disk.path = path;
        }
    }
    for (const auto& [late_id, late] : devices_->late_disks(config_)) {
        if (late_id == id) {
            late->set_moved();
        }
    }
    Json* disks = config_.source.find("disks");
    if (disks != nullptr && disks->is_array()) {
        for (Json& disk : disks->as_array()) {
            if (disk.string_or("id") == id) {
                disk.set("path", path);
            }
        }
    }
}

}  // namespace kumoi::hypervisor
