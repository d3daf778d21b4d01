#include "compute/manager/task_continuation.h"

#include <algorithm>
#include <array>

#include "compute/manager/agent_tasks.h"
#include "compute/manager/power_tasks.h"
#include "compute/manager/reboot_task.h"
#include "compute/manager/rebuild_task.h"
#include "compute/manager/rescue_task.h"
#include "compute/manager/resize_task.h"
#include "compute/manager/shelve_task.h"
#include "compute/manager/snapshot_task.h"
#include "compute/manager/suspend_task.h"
#include "compute/manager/terminate_task.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

using Function = Result<void> (*)(NodeServices& services, const Operation& operation);

Result<void> reboot_soft(NodeServices& services, const Operation& operation) {
    return RebootTask(services, operation, RebootType::Soft).execute();
}
Result<void> reboot_hard(NodeServices& services, const Operation& operation) {
    return RebootTask(services, operation, RebootType::Hard).execute();
}
Result<void> terminate(NodeServices& services, const Operation& operation) {
    return TerminateTask(services, operation).execute();
}
Result<void> stop_cleanly(NodeServices& services, const Operation& operation) {
    return stop_task(services, operation, true);
}
Result<void> rescue(NodeServices& services, const Operation& operation) {
    return RescueTask(services, operation, "").execute();
}
Result<void> rebuild(NodeServices& services, const Operation& operation) {
    return RebuildTask(services, operation, "").execute();
}
Result<void> resize(NodeServices& services, const Operation& operation) {
    return ResizeTask(services, operation).execute();
}
Result<void> finish_resize(NodeServices& services, const Operation& operation) {
    return ResizeTask(services, operation).finish_after_restart();
}
Result<void> shelve(NodeServices& services, const Operation& operation) {
    return ShelveTask(services, operation).execute();
}
Result<void> unshelve(NodeServices& services, const Operation& operation) {
    return UnshelveTask(services, operation).execute();
}
Result<void> finish_unshelve(NodeServices& services, const Operation& operation) {
    return UnshelveTask(services, operation).finish_after_restart();
}

struct Entry {
    std::string_view task_state;
    VerbInfo info;
    Function function;
};

constexpr std::array<Entry, 30> kEntries = {{
    {task_states::kDeleting, verbs::kTerminate, terminate},
    {task_states::kPoweringOff, verbs::kStop, stop_cleanly},
    {task_states::kPoweringOn, verbs::kStart, start_task},
    {task_states::kRebooting, verbs::kReboot, reboot_soft},
    {task_states::kRebootPending, verbs::kReboot, reboot_soft},
    {task_states::kRebootStarted, verbs::kReboot, reboot_soft},
    {task_states::kRebootingHard, verbs::kReboot, reboot_hard},
    {task_states::kRebootPendingHard, verbs::kReboot, reboot_hard},
    {task_states::kRebootStartedHard, verbs::kReboot, reboot_hard},
    {task_states::kPausing, verbs::kPause, pause_task},
    {task_states::kUnpausing, verbs::kUnpause, unpause_task},
    {task_states::kSuspending, verbs::kSuspend, suspend_task},
    {task_states::kResuming, verbs::kResume, resume_task},
    {task_states::kRescuing, verbs::kRescue, rescue},
    {task_states::kUnrescuing, verbs::kUnrescue, unrescue_task},
    {task_states::kRebuilding, verbs::kRebuild, rebuild},
    {task_states::kRebuildBlockDeviceMapping, verbs::kRebuild, rebuild},
    {task_states::kRebuildSpawning, verbs::kRebuild, rebuild},
    {task_states::kResizePrep, verbs::kResize, resize},
    {task_states::kResizeMigrating, verbs::kResize, finish_resize},
    {task_states::kResizeMigrated, verbs::kResize, finish_resize},
    {task_states::kResizeFinish, verbs::kResize, finish_resize},
    {task_states::kResizeConfirming, verbs::kConfirmResize, confirm_resize_task},
    {task_states::kResizeReverting, verbs::kRevertResize, revert_resize_task},
    {task_states::kUnshelving, verbs::kUnshelve, unshelve},
    {task_states::kSpawning, verbs::kUnshelve, finish_unshelve},
    {task_states::kUpdatingPassword, verbs::kSetPassword, give_up_password},
    {task_states::kSoftDeleting, verbs::kSoftDelete, soft_delete_task},
    {task_states::kRestoring, verbs::kRestore, restore_task},
    {task_states::kShelving, verbs::kShelve, shelve},
}};

bool is_snapshot(std::string_view task_state) {
    return task_state.starts_with("image_");
}

TaskContinuation snapshot_continuation(const Instance& instance) {
    const bool backup = !instance.task_arguments.backup_type.empty();
    const SnapshotKind kind = backup ? SnapshotKind::Backup : SnapshotKind::Image;
    const bool begun = instance.task_state != task_states::kImageSnapshotPending;
    return {backup ? verbs::kBackup : verbs::kSnapshot,
            [kind, begun](NodeServices& services, const Operation& operation) {
                SnapshotTask task(services, operation, kind);
                return begun ? task.finish_after_restart() : task.execute();
            }};
}

}  // namespace

std::optional<TaskContinuation> continuation_of(const Instance& instance, std::string_view verb) {
    const std::string task_state = instance.task_state.value_or("");
    if (is_snapshot(task_state)) {
        return snapshot_continuation(instance);
    }
    if (task_state == task_states::kShelvingOffloading && verb != verbs::kShelve.verb) {
        return TaskContinuation{verbs::kShelveOffload, shelve_offload_task};
    }
    if (task_state.starts_with(task_states::kShelving)) {
        return TaskContinuation{verbs::kShelve, shelve};
    }
    const auto* const found =
        std::find_if(kEntries.begin(), kEntries.end(),
                     [&](const Entry& entry) { return entry.task_state == task_state; });
    if (found == kEntries.end()) {
        return std::nullopt;
    }
    return TaskContinuation{found->info, found->function};
}

VerbInfo verb_info(std::string_view verb) {
    for (const Entry& entry : kEntries) {
        if (entry.info.verb == verb) {
            return entry.info;
        }
    }
    for (const VerbInfo& info : {verbs::kSnapshot, verbs::kBackup, verbs::kShelveOffload}) {
        if (info.verb == verb) {
            return info;
        }
    }
    return {verb, "compute_instance"};
}

}  // namespace kumoi::compute
