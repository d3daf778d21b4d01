// ComputeManager, part three: network cards that come and go.
#include "compute/manager/compute_manager.h"
#include "compute/manager/interface_task.h"
#include "compute/manager/pending_answer.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kAttachTimeoutMs = 60'000;  // Nova's rpc_response_timeout

}  // namespace

Result<VifInfo> ComputeManager::attach_interface(const AttachInterfaceRequest& request) {
    PendingAnswer<VifInfo> pending;
    TRY(queue_.submit(
        request.uuid, ServerQueue::Lane::Other,
        [this, request, answer = pending.sender()]() mutable {
            run_verb(services_, verbs::kAttachInterface, request.context, request.uuid,
                     [&](const Operation& operation) -> Result<void> {
                         auto attached =
                             AttachInterfaceTask(services_, operation).execute(request.requested);
                         answer->set(attached);
                         return attached.ok() ? Result<void>() : std::move(attached).error();
                     });
            answer.reset();
        }));
    return pending.wait(kAttachTimeoutMs);
}

Result<void> ComputeManager::detach_interface(const RequestContext& context,
                                              const std::string& uuid, const std::string& port_id) {
    return submit(verbs::kDetachInterface, context, uuid,
                  [port_id](auto& services, const auto& operation) {
                      return detach_interface_task(services, operation, port_id);
                  });
}

}  // namespace kumoi::compute
