// set_disk_limits, set_nic_limits: bandwidth and IOPS limits, changed while the guest runs.

#include "hypervisor/virtio/block.h"
#include "hypervisor/virtio/net.h"
#include "hypervisor/virtio/scsi.h"
#include "hypervisor/vmm.h"

namespace kumoi::hypervisor {

namespace {

// Null without a virtio device of that name and type.
VirtioDevice* find(PciDevices& devices, const std::string& id, uint16_t type) {
    const auto at = devices.find(id);
    auto* device = at ? dynamic_cast<VirtioPciDevice*>(devices.at(*at)) : nullptr;
    return device != nullptr && device->device().type() == type ? &device->device() : nullptr;
}

Error missing(std::string_view what, const std::string& id) {
    return Error::not_found("there is no {} \"{}\"", what, id)
        .with_hint("\"statistics\" lists the devices of this machine");
}

}  // namespace

Result<GuestDisk*> MachineDevices::disk(const std::string& id) {
    if (auto* device = find(*pci_, id, virtio::kTypeBlock)) {
        return static_cast<VirtioBlock*>(device);
    }
    if (GuestDisk* unit = scsi_ == nullptr ? nullptr : scsi_->disk(id)) {
        return unit;
    }
    return missing("disk", id);
}

Result<VirtioNet*> MachineDevices::nic(const std::string& id) {
    if (auto* device = find(*pci_, id, virtio::kTypeNet)) {
        return static_cast<VirtioNet*>(device);
    }
    return missing("nic", id);
}

// Replaces all limits of the disk: what is not named is not limited any more.
Result<Json> Vmm::set_disk_limits(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"disk", "limits"}));
    GuestDisk* disk = TRY(devices_->disk(TRY(view.string("disk"))));
    const DiskLimits limits = TRY(parse_disk_limits(TRY(view.object("limits"))));
    TRY(disk->set_limits(limits, seams_.clock.monotonic_ns()));
    return Json::object({{"limits", disk_limits_json(disk->limits())}});
}

// As set_disk_limits.
Result<Json> Vmm::set_nic_limits(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"nic", "limits"}));
    VirtioNet* nic = TRY(devices_->nic(TRY(view.string("nic"))));
    const NicLimits limits = TRY(parse_nic_limits(TRY(view.object("limits"))));
    TRY(nic->set_limits(limits, seams_.clock.monotonic_ns()));
    return Json::object({{"limits", nic_limits_json(nic->limits())}});
}

}  // namespace kumoi::hypervisor
