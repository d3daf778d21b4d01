// ComputeManager, part six: the verbs that need the agent in a guest. Their callers wait.
#include "base/log.h"
#include "compute/manager/agent_tasks.h"
#include "compute/manager/compute_manager.h"
#include "compute/manager/pending_answer.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kAnswerTimeoutMs = 60'000;  // Nova's rpc_response_timeout

}  // namespace

Result<void> ComputeManager::set_admin_password(const SetPasswordRequest& request) {
    PendingAnswer<void> pending;
    TRY(queue_.submit(request.uuid, ServerQueue::Lane::Other,
                      [this, request, answer = pending.sender()]() mutable {
                          std::optional<Result<void>> outcome;
                          run_verb(services_, verbs::kSetPassword, request.context, request.uuid,
                                   [&](const Operation& operation) -> Result<void> {
                                       outcome = set_password_task(services_, operation,
                                                                   request.password);
                                       return *outcome;
                                   });
                          if (outcome) {  // told when all is recorded
                              answer->set(std::move(*outcome));
                          }
                          answer.reset();
                      }));
    return pending.wait(kAnswerTimeoutMs);
}

// Without a journal entry: whoever asked for it asks for its end.
Result<void> ComputeManager::quiesce_instance(const RequestContext& context,
                                              const std::string& uuid) {
    PendingAnswer<void> pending;
    TRY(queue_.submit(uuid, ServerQueue::Lane::Other,
                      [this, context, uuid, answer = pending.sender()]() mutable {
                          const LogScope scope({{"request", context.request_id}, {"server", uuid}});
                          answer->set([&]() -> Result<void> {
                              const Instance instance = TRY(services_.conductor.instance_get(uuid));
                              return services_.driver.quiesce(instance);
                          }());
                          answer.reset();
                      }));
    return pending.wait(kAnswerTimeoutMs);
}

Result<void> ComputeManager::unquiesce_instance(const RequestContext& context,
                                                const std::string& uuid,
                                                const std::vector<std::string>& snapshot_ids) {
    return queue_.submit(uuid, ServerQueue::Lane::Other, [this, context, uuid, snapshot_ids] {
        const LogScope scope({{"request", context.request_id}, {"server", uuid}});
        wait_for_snapshots(services_, context, snapshot_ids);
        const auto outcome = [&]() -> Result<void> {
            const Instance instance = TRY(services_.conductor.instance_get(uuid));
            return services_.driver.unquiesce(instance);
        }();
        warn_unless_ok(outcome, "the guest's file systems may stand still");
    });
}

}  // namespace kumoi::compute
