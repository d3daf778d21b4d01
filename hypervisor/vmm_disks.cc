// resize_disk: a larger disk while the guest runs; its driver is told by a configuration interrupt.

#include "hypervisor/virtio/block.h"
#include "hypervisor/vmm.h"

namespace kumoi::hypervisor {

Result<Json> Vmm::resize_disk(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"disk", "size"}));
    VirtioBlock* disk = TRY(devices_->disk(TRY(view.string("disk"))));
    const auto size = static_cast<uint64_t>(TRY(view.integer("size", {512, INT64_MAX})));
    TRY(disk->image().resize(size));
    return Json::object({{"size", disk->image().size()}});
}

}  // namespace kumoi::hypervisor
