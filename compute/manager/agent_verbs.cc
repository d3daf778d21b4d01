// ComputeManager, part six: the verbs that need the agent in a guest. Their callers wait.
#include "base/log.h"
#include "compute/manager/agent_tasks.h"
#include "compute/manager/compute_manager.h"
#include "compute/manager/pending_answer.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kAnswerTimeoutMs = 60'000;  // Nova's rpc_response_timeout

struct Done {};

Result<void> wait_for(PendingAnswer<Done>& pending) {
    TRY(pending.wait(kAnswerTimeoutMs));
    return {};
}

Result<Done> answer_of(const Result<void>& outcome) {
    return outcome.ok() ? Result<Done>(Done()) : Result<Done>(outcome.error());
}

}  // namespace

Result<void> ComputeManager::set_admin_password(const SetPasswordRequest& request) {
    PendingAnswer<Done> pending;
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
                              answer->set(answer_of(*outcome));
                          }
                          answer.reset();
                      }));
    return wait_for(pending);
}

// Without a journal entry: whoever asked for it asks for its end.
Result<void> ComputeManager::quiesce_instance(const RequestContext& context,
                                              const std::string& uuid) {
    PendingAnswer<Done> pending;
    TRY(queue_.submit(uuid, ServerQueue::Lane::Other,
                      [this, context, uuid, answer = pending.sender()]() mutable {
                          const LogScope scope({{"request", context.request_id}, {"server", uuid}});
                          const auto outcome = [&]() -> Result<void> {
                              const Instance instance = TRY(services_.conductor.instance_get(uuid));
                              return services_.driver.quiesce(instance);
                          }();
                          answer->set(answer_of(outcome));
                          answer.reset();
                      }));
    return wait_for(pending);
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
