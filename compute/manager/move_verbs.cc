// ComputeManager, part four: moves between hosts.
#include "compute/manager/compute_manager.h"
#include "compute/manager/evacuate_task.h"
#include "compute/manager/move_tasks.h"
#include "compute/manager/pending_answer.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kCallTimeoutMs = 1'800'000;  // Nova's long_rpc_timeout

const VerbInfo& verb_of(MoveStep step) {
    switch (step) {
        case MoveStep::PrepResize: return verbs::kPrepResize;
        case MoveStep::ResizeInstance: return verbs::kMoveAway;
        case MoveStep::FinishResize: return verbs::kFinishResize;
        case MoveStep::ConfirmResize: return verbs::kConfirmMove;
        case MoveStep::RevertResize: return verbs::kRevertMove;
        case MoveStep::FinishRevertResize: return verbs::kFinishRevert;
        case MoveStep::Evacuate: return verbs::kEvacuate;
    }
    return verbs::kPrepResize;
}

// What reads or writes a whole disk waits for its turn among the builds.
bool is_disk_work(MoveStep step) {
    return step == MoveStep::FinishResize || step == MoveStep::Evacuate;
}

Result<void> run_step(NodeServices& services, const Operation& operation,
                      const MoveRequest& request) {
    switch (request.step) {
        case MoveStep::PrepResize:
            return PrepResizeTask(services, operation).execute(request.flavor);
        case MoveStep::ResizeInstance:
            return MoveAwayTask(services, operation).execute(request.clean_shutdown);
        case MoveStep::FinishResize:
            return FinishResizeTask(services, operation).execute(request.disk_info);
        case MoveStep::ConfirmResize: return confirm_move_task(services, operation, false);
        case MoveStep::RevertResize: return revert_move_task(services, operation);
        case MoveStep::FinishRevertResize: return finish_revert_task(services, operation);
        case MoveStep::Evacuate: return EvacuateTask(services, operation).execute(request);
    }
    return {};
}

}  // namespace

Result<void> ComputeManager::move_instance(MoveRequest request) {
    if (services_.moves == nullptr) {
        return ComputeApi::move_instance(std::move(request));
    }
    PendingAnswer<void> pending;
    const auto lane =
        is_disk_work(request.step) ? ServerQueue::Lane::Build : ServerQueue::Lane::Other;
    const std::string uuid = request.uuid;
    const bool wait = request.wait;
    TRY(queue_.submit(uuid, lane,
                      [this, request = std::move(request), answer = pending.sender()]() mutable {
                          run_verb(services_, verb_of(request.step), request.context, request.uuid,
                                   [&](const Operation& operation) {
                                       auto result = run_step(services_, operation, request);
                                       answer->set(result);
                                       return result;
                                   });
                          answer.reset();
                      }));
    return wait ? pending.wait(kCallTimeoutMs) : Result<void>();
}

}  // namespace kumoi::compute
