// resize_instance, on the source: the guest ends, its disks are kept aside and offered, and the
// server's record becomes the destination's.
#include "base/log.h"
#include "compute/manager/move_tasks.h"
#include "compute/manager/power_tasks.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr int kReadsMax = 5;  // each waits for conductor as long as an RPC call may

}  // namespace

Result<void> MoveAwayTask::load() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    migration_ = TRY(services_.moves->migration(operation_.uuid));
    return {};
}

Result<void> MoveAwayTask::execute(bool clean_shutdown) {
    TRY(load());
    if (instance_.task_state == task_states::kResizeMigrated) {
        return pass_on_again();  // the destination has lost what it was told
    }
    auto result = run_steps(clean_shutdown);
    if (!result.ok() && !is_handed_over()) {
        rollback(result.error());
    }
    return result;
}

Result<void> MoveAwayTask::run_steps(bool clean_shutdown) {
    if (!instance_.new_flavor) {
        return Error::internal("Server {} has no flavor to be moved with", instance_.uuid);
    }
    const bool same_host = moves::is_same_host(migration_);
    TRY(services_.conductor.instance_save(
        instance_.uuid, to_task_state(task_states::kResizeMigrating, {task_states::kResizePrep})));
    if (!same_host) {
        TRY(services_.moves->check_peer(migration_.dest_compute, migration_.dest_node));
    }
    TRY(services_.conductor.migration_save(instance_.uuid, "migrating"));
    const bool shared = TRY(moves::shares_storage(services_, instance_, migration_.dest_compute));
    services_.journal.step(operation_.journal_id, "move_away");
    const std::string disk_info = TRY(services_.driver.migrate_disk_away(
        instance_, *instance_.new_flavor, migration_.uuid, shared,
        shutdown_timeout_of(instance_, services_.options, clean_shutdown)));
    TRY(reserve_volumes(services_, operation_.context, instance_));
    return hand_over(disk_info);
}

Result<void> MoveAwayTask::hand_over(const std::string& disk_info) {
    TRY(services_.conductor.migration_save(instance_.uuid, "post-migrating"));
    services_.journal.step(operation_.journal_id, "hand_over");
    InstanceUpdate update =
        to_task_state(task_states::kResizeMigrated, {task_states::kResizeMigrating});
    update.old_flavor = std::optional(instance_.flavor);
    update.power_state = power_states::kShutdown;
    TRY(services_.moves->save_host(instance_.uuid, update, MoveEnd::Destination));
    return pass_on(disk_info);
}

Result<void> MoveAwayTask::pass_on(const std::string& disk_info) {
    TRY(services_.moves->cast(instance_.uuid, MoveCast::FinishResize, disk_info));
    services_.journal.step(operation_.journal_id, "passed_on");
    if (!moves::is_same_host(migration_)) {
        undo_or_retry(unplug_all(services_, instance_),
                      "network devices of a server that left were not removed");
    }
    return {};
}

// Told twice is fine: the second finish_resize finds the server taken.
Result<void> MoveAwayTask::pass_on_again() {
    return pass_on(TRY(services_.driver.migrate_disk_away(
        instance_, instance_.new_flavor.value_or(instance_.flavor), migration_.uuid, false, 0)));
}

// A save whose answer was lost may have happened all the same.
bool MoveAwayTask::is_handed_over() {
    auto now = services_.conductor.instance_get(operation_.uuid);
    for (int tries = 1; tries < kReadsMax && !now.ok() && !is_instance_gone(now.error()); ++tries) {
        now = services_.conductor.instance_get(operation_.uuid);
    }
    if (!now.ok()) {
        return false;
    }
    const bool moved = now->task_state == task_states::kResizeMigrated ||
                       now->task_state == task_states::kResizeFinish ||
                       now->vm_state == vm_states::kResized;
    instance_ = *now;
    return moved;
}

Result<void> MoveAwayTask::finish_after_restart() {
    TRY(load());
    if (instance_.task_state == task_states::kResizeMigrated) {
        return pass_on_again();
    }
    if (instance_.task_state != task_states::kResizeMigrating &&
        instance_.task_state != task_states::kResizePrep) {
        const bool has_left = instance_.host != services_.options.host;
        return has_left ? unplug_all(services_, instance_) : Result<void>();
    }
    const Error reason = Error::unavailable("The host was restarted while the server left it")
                             .with_hint("Ask for it again.");
    rollback(reason);
    return reason;
}

void MoveAwayTask::rollback(const Error& reason) {
    services_.journal.step(operation_.journal_id, "rollback");
    if (is_taken_over(reason) && instance_.task_state != task_states::kResizeMigrating) {
        return;  // nothing was touched, or somebody else has it
    }
    record_fault(services_, instance_.uuid, reason);
    const auto back = [&]() -> Result<void> {
        instance_.network_info = TRY(plug_all(services_, instance_));
        const auto volumes = TRY(attach_volumes(services_, operation_.context, instance_));
        if (services_.volumes != nullptr) {  // made for the other host
            TRY(delete_unrecorded_attachments(services_, operation_.context, instance_.uuid));
        }
        return moves::restore_here(services_, instance_, volumes);
    }();
    warn_unless_ok(services_.moves->return_allocations(instance_.uuid),
                   "the allocation of a move was not given back");
    warn_unless_ok(services_.conductor.migration_save(instance_.uuid, "error"),
                   "the end of a migration was not recorded");
    InstanceUpdate update = to_task_state(
        std::nullopt, {task_states::kResizePrep, task_states::kResizeMigrating, std::nullopt});
    update.new_flavor = std::optional<Flavor>();
    update.old_flavor = std::optional<Flavor>();
    update.system_metadata = moves::without_old_vm_state(instance_.system_metadata);
    update.power_state = power_state_of(services_.driver, instance_);
    if (!back.ok()) {
        log_error("compute", "a server that could not leave did not start again",
                  {{"why", back.error().text()}});
        update.vm_state = vm_states::kError;
    }
    warn_unless_ok(services_.conductor.instance_save(instance_.uuid, update),
                   "a server that could not leave was not given free");
    instance_.new_flavor = instance_.old_flavor = std::nullopt;
    services_.tracker.set_share(instance_);
}

}  // namespace kumoi::compute
