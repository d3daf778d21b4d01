// set_disk_limits: bandwidth and IOPS limits of a disk, changed while the guest runs.

#include "hypervisor/virtio/block.h"
#include "hypervisor/vmm.h"

namespace kumoi::hypervisor {

Result<VirtioBlock*> MachineDevices::disk(const std::string& id) {
    const auto at = pci_->find(id);
    auto* device = at ? dynamic_cast<VirtioPciDevice*>(pci_->at(*at)) : nullptr;
    if (device != nullptr && device->device().type() == virtio::kTypeBlock) {
        return static_cast<VirtioBlock*>(&device->device());
    }
    return Error::not_found("there is no disk \"{}\"", id)
        .with_hint("\"statistics\" lists the devices of this machine");
}

// Replaces all limits of the disk: what is not named is not limited any more.
Result<Json> Vmm::set_disk_limits(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"disk", "limits"}));
    VirtioBlock* disk = TRY(devices_->disk(TRY(view.string("disk"))));
    const DiskLimits limits = TRY(parse_disk_limits(TRY(view.object("limits"))));
    TRY(disk->set_limits(limits, seams_.clock.monotonic_ns()));
    return Json::object({{"limits", disk_limits_json(disk->limits())}});
}

}  // namespace kumoi::hypervisor
