// prep_resize, on the destination: room is held for the server, and the source is asked for it.
#include "base/log.h"
#include "compute/manager/cloud_records.h"
#include "compute/manager/move_tasks.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

// Nova's words for a cold migration that would go nowhere.
Error unable_to_migrate_to_self(const Instance& instance, const std::string& host) {
    return Error::conflict("Unable to migrate instance ({}) to current host ({}).", instance.uuid,
                           host)
        .with_fault("UnableToMigrateToSelf");
}

}  // namespace

Result<void> PrepResizeTask::execute(const Flavor& flavor) {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    auto result = run_steps(flavor);
    if (!result.ok()) {
        claim_.abort();
        rollback(result.error());
    }
    return result;
}

Result<void> PrepResizeTask::run_steps(const Flavor& flavor) {
    const Migration migration = TRY(services_.moves->migration(instance_.uuid));
    const std::string& here = services_.options.host;
    const bool same_host = migration.source_compute == here;
    if (same_host && flavor.flavor_id == instance_.flavor.flavor_id) {
        return unable_to_migrate_to_self(instance_, here);
    }
    if (services_.cloud != nullptr) {
        TRY(services_.cloud->check_group(operation_.context, instance_.uuid, false));
    }
    if (!same_host) {
        TRY(services_.moves->check_peer(migration.source_compute, migration.source_node));
        TRY(check_nothing_left(migration.source_compute));
    }
    Instance wanted = instance_;
    wanted.new_flavor = flavor;
    if (same_host) {
        TRY(services_.tracker.resize_claim(wanted));
    } else {
        wanted.flavor = flavor;
        services_.tracker.release(wanted.uuid);  // an earlier try that no audit has noticed yet
        claim_ = TRY(services_.tracker.claim(wanted));
    }
    InstanceUpdate update;
    update.expected_task_state = {{task_states::kResizePrep}};
    update.system_metadata = instance_.system_metadata;
    update.system_metadata->insert_or_assign(kOldVmState, instance_.vm_state);
    TRY(services_.moves->prepare(instance_.uuid, update, here, services_.options.host_ip));
    TRY(services_.moves->cast(instance_.uuid, MoveCast::ResizeInstance, {}));
    services_.journal.step(operation_.journal_id, "passed_on");
    // From here on the audit counts it by its migration.
    services_.tracker.set_building(instance_.uuid, false);
    claim_.keep();
    return {};
}

// Disks of an earlier stay that nobody has removed are not ours to overwrite.
Result<void> PrepResizeTask::check_nothing_left(const std::string& source) {
    if (!services_.driver.has_disks(instance_) ||
        TRY(moves::shares_storage(services_, instance_, source))) {
        return {};
    }
    return Error::conflict("This host has a folder of server {} already", instance_.uuid)
        .with_hint("It may be left from an earlier stay; look before removing it.");
}

Result<void> PrepResizeTask::give_up_after_restart() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    const Error reason =
        Error::unavailable("The destination was restarted while the server was about to move")
            .with_hint("Ask for it again.");
    // Holds only while the source has not begun.
    auto freed = services_.conductor.instance_save(
        instance_.uuid, to_task_state(std::nullopt, {task_states::kResizePrep}));
    if (!freed.ok() && !(is_taken_over(freed.error()) && is_idle_again())) {
        return freed;
    }
    instance_.task_state = std::nullopt;  // what the move holds may still be held
    rollback(reason);
    return reason;
}

// Its host was restarted and has set it free: the move is over, and what it holds must go.
bool PrepResizeTask::is_idle_again() {
    const auto now = services_.conductor.instance_get(instance_.uuid);
    return now.ok() && !now->task_state && now->vm_state != vm_states::kResized;
}

void PrepResizeTask::rollback(const Error& reason) {
    services_.journal.step(operation_.journal_id, "rollback");
    const bool same_host = instance_.host == services_.options.host;
    if (same_host) {
        services_.tracker.set_share(instance_);
    }
    if (is_taken_over(reason) && !is_idle_again()) {
        return;
    }
    record_fault(services_, instance_.uuid, reason);
    warn_unless_ok(services_.moves->return_allocations(instance_.uuid),
                   "the allocation of a move was not given back");
    warn_unless_ok(services_.conductor.migration_save(instance_.uuid, "error"),
                   "the end of a migration was not recorded");
    const bool may_go_elsewhere = instance_.task_state == task_states::kResizePrep;
    if (may_go_elsewhere &&
        services_.moves->reschedule(operation_.context, instance_.uuid, reason).ok()) {
        return;
    }
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kResizePrep, std::nullopt});
    update.new_flavor = std::optional<Flavor>();
    update.system_metadata = moves::without_old_vm_state(instance_.system_metadata);
    warn_unless_ok(services_.conductor.instance_save(instance_.uuid, update),
                   "a server that could not move was not given free");
}

}  // namespace kumoi::compute
