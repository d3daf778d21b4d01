// ComputeManager, part five: volumes.
#include "compute/manager/compute_manager.h"
#include "compute/manager/pending_answer.h"
#include "compute/manager/volume_task.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kReserveTimeoutMs = 1'800'000;  // Nova's long_rpc_timeout
constexpr int64_t kRemoveTimeoutMs = 60'000;

}  // namespace

Result<void> ComputeManager::attach_volume(const RequestContext& context, const std::string& uuid,
                                           const BlockDevice& device) {
    return submit(verbs::kAttachVolume, context, uuid,
                  [device](auto& services, const auto& operation) {
                      return AttachVolumeTask(services, operation).execute(device);
                  });
}

Result<void> ComputeManager::detach_volume(const RequestContext& context, const std::string& uuid,
                                           const std::string& volume_id,
                                           const std::string& attachment_id) {
    return submit(verbs::kDetachVolume, context, uuid,
                  [volume_id, attachment_id](auto& services, const auto& operation) {
                      return detach_volume_task(services, operation, volume_id, attachment_id);
                  });
}

// It copies a whole volume, so it counts among the builds.
Result<void> ComputeManager::swap_volume(const SwapVolumeRequest& request) {
    return submit(
        verbs::kSwapVolume, request.context, request.uuid,
        [request](auto& services, const auto& operation) {
            return SwapVolumeTask(services, operation, request).execute();
        },
        ServerQueue::Lane::Build);
}

Result<BlockDevice> ComputeManager::reserve_block_device_name(const ReserveDeviceRequest& request) {
    PendingAnswer<BlockDevice> pending;
    TRY(queue_.submit(request.uuid, ServerQueue::Lane::Other,
                      [this, request, answer = pending.sender()]() mutable {
                          answer->set(reserve_device(services_, request));
                          answer.reset();
                      }));
    return pending.wait(kReserveTimeoutMs);
}

Result<void> ComputeManager::remove_volume_connection(const RequestContext& context,
                                                      const std::string& uuid,
                                                      const std::string& volume_id,
                                                      bool delete_attachment) {
    PendingAnswer<void> pending;
    TRY(queue_.submit(uuid, ServerQueue::Lane::Other,
                      [=, this, answer = pending.sender()]() mutable {
                          answer->set(remove_volume_connection_task(services_, context, uuid,
                                                                    volume_id, delete_attachment));
                          answer.reset();
                      }));
    return pending.wait(kRemoveTimeoutMs);
}

void ComputeManager::volume_restarted(const std::string& uuid, const std::string& volume_id) {
    submit_quietly(uuid, [this, uuid, volume_id] {
        warn_unless_ok(volume_restarted_task(services_, uuid, volume_id),
                       "a guest did not get its volume's new back end");
    });
}

}  // namespace kumoi::compute
