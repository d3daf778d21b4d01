#include "compute/manager/volume_reimage.h"

#include <algorithm>

#include "compute/manager/external_events.h"
#include "compute/manager/volume_api.h"
#include "compute/manager/volume_connections.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kTimeoutPerGbNs = 20 * kNanosPerSecond;  // Nova's reimage_timeout_per_gb

Result<void> reimage_and_wait(NodeServices& services, const RequestContext& context,
                              const Instance& instance, const BlockDevice& root,
                              const std::string& image_id) {
    const int64_t timeout_ns = kTimeoutPerGbNs * std::max<int64_t>(root.volume_size.value_or(1), 1);
    if (services.events == nullptr) {
        return services.volumes->volumes.reimage(context, root.volume_id, image_id);
    }
    auto reimaged = services.events->expect(instance.uuid, {"volume-reimaged-" + root.volume_id});
    TRY(services.volumes->volumes.reimage(context, root.volume_id, image_id));
    return reimaged.wait(timeout_ns);
}

}  // namespace

Result<void> reimage_root_volume(NodeServices& services, const RequestContext& context,
                                 const Instance& instance, const std::string& image_id) {
    for (BlockDevice& device : TRY(volumes_of(services, context, instance.uuid))) {
        if (!device.is_root()) {
            continue;
        }
        TRY(reserve_volume(services, context, instance.uuid, device));
        auto reimaged = reimage_and_wait(services, context, instance, device, image_id);
        if (!reimaged.ok()) {
            return std::move(reimaged)
                .error()
                .with_context("Failed to rebuild volume backed instance")
                .with_fault("BuildAbortException");
        }
        TRY(connect_volume(services, context, instance, device));
        return services.volumes->volumes.complete_attachment(context, device.attachment_id);
    }
    return {};
}

}  // namespace kumoi::compute
