// The ends of a move between hosts: confirm_resize, or revert_resize and finish_revert_resize.
#include "base/log.h"
#include "compute/manager/device_metadata.h"
#include "compute/manager/move_tasks.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

InstanceUpdate without_flavors(const Instance& instance) {
    InstanceUpdate update;
    update.old_flavor = std::optional<Flavor>();
    update.new_flavor = std::optional<Flavor>();
    update.system_metadata = moves::without_old_vm_state(instance.system_metadata);
    return update;
}

// The guest runs on the other host: what is recorded of it is all we know.
std::string state_after_confirmation(NodeServices& services, const Instance& instance,
                                     bool same_host) {
    const int power = same_host ? power_state_of(services.driver, instance) : instance.power_state;
    return power == power_states::kShutdown ? vm_states::kStopped : vm_states::kActive;
}

Result<void> fail_to_error(NodeServices& services, const std::string& uuid, const Error& reason) {
    if (is_taken_over(reason)) {  // or it is in ERROR by an earlier try, and only that is missing:
        const auto now = services.conductor.instance_get(uuid);
        if (now.ok() && now->vm_state == vm_states::kError && !now->task_state) {
            warn_unless_ok(services.conductor.migration_save(uuid, "error"),
                           "the end of a migration was not recorded");
        }
        return reason;
    }
    record_fault(services, uuid, reason);
    warn_unless_ok(services.conductor.migration_save(uuid, "error"),
                   "the end of a migration was not recorded");
    InstanceUpdate update;
    update.vm_state = vm_states::kError;
    update.task_state = std::optional<std::string>();
    warn_unless_ok(services.conductor.instance_save(uuid, update), "state ERROR was not recorded");
    return reason;
}

Result<void> confirm(NodeServices& services, const Operation& operation, bool resumed) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    const Migration migration = TRY(services.moves->migration(operation.uuid, true));
    const bool half_done = resumed && migration.status == "confirmed";
    if (migration.status != "finished" && migration.status != "confirming" && !half_done) {
        log_warn("compute", "a move that is not finished cannot be confirmed",
                 {{"status", migration.status}});
        return {};
    }
    services.journal.step(operation.journal_id, "confirm");
    const bool same_host = moves::is_same_host(migration);
    if (!same_host) {
        TRY(unplug_all(services, instance));
    }
    TRY(services.driver.confirm_migration(instance));
    TRY(services.conductor.migration_save(instance.uuid, "confirmed"));
    TRY(services.moves->drop_context(instance.uuid));
    InstanceUpdate update =
        to_task_state(std::nullopt, {std::nullopt, task_states::kResizeConfirming,
                                     task_states::kDeleting, task_states::kSoftDeleting});
    update.vm_state = state_after_confirmation(services, instance, same_host);
    TRY(services.conductor.instance_save(instance.uuid, update));
    TRY(services.moves->drop_allocations(instance.uuid));
    TRY(services.conductor.instance_save(instance.uuid, without_flavors(instance)));
    instance.old_flavor = instance.new_flavor = std::nullopt;
    if (same_host) {
        services.tracker.set_share(instance);
    } else {
        services.tracker.release(instance.uuid);
    }
    return {};
}

Result<void> revert(NodeServices& services, const Operation& operation) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    const Migration migration = TRY(services.moves->migration(operation.uuid));
    const bool same_host = moves::is_same_host(migration);
    TRY(services.conductor.instance_save(
        instance.uuid,
        to_task_state(task_states::kResizeReverting, {task_states::kResizeReverting})));
    const bool shared = TRY(moves::shares_storage(services, instance, migration.source_compute));
    services.journal.step(operation.journal_id, "leave");
    TRY(services.driver.leave(instance, shared));
    TRY(unplug_all(services, instance));
    TRY(reserve_volumes(services, operation.context, instance));
    TRY(services.conductor.migration_save(instance.uuid, "reverted"));
    TRY(services.moves->cast(instance.uuid, MoveCast::FinishRevertResize, {}));
    if (!same_host) {
        services.tracker.release(instance.uuid);
    }
    return {};
}

Result<void> record_return(NodeServices& services, const Instance& instance) {
    TRY(services.moves->drop_context(instance.uuid));
    InstanceUpdate update = without_flavors(instance);
    update.task_state = std::optional<std::string>();
    update.expected_task_state = {{task_states::kResizeReverting}};
    update.vm_state = moves::ran_before(instance) ? vm_states::kActive : vm_states::kStopped;
    update.power_state = power_state_of(services.driver, instance);
    update.launched_ns = services.clock.wall_ns();
    update.network_info = instance.network_info;
    return services.conductor.instance_save(instance.uuid, update);
}

Result<void> finish_revert(NodeServices& services, const Operation& operation) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    const Flavor flavor = instance.old_flavor.value_or(instance.flavor);
    services.journal.step(operation.journal_id, "take_back");
    InstanceUpdate update =
        to_task_state(task_states::kResizeReverting, {task_states::kResizeReverting});
    update.flavor = flavor;
    TRY(services.moves->save_host(instance.uuid, update, MoveEnd::Source));
    instance.flavor = flavor;
    instance.host = instance.node = services.options.host;
    TRY(services.moves->return_allocations(instance.uuid));
    instance.network_info = TRY(moves::connect_here(services, operation, instance));
    const auto volumes = TRY(attach_volumes(services, operation.context, instance));
    services.journal.step(operation.journal_id, "restore");
    TRY(moves::restore_here(services, instance, volumes));
    TRY(record_tagged_devices(services, operation.context, instance));
    TRY(record_return(services, instance));
    instance.old_flavor = instance.new_flavor = std::nullopt;
    services.tracker.set_share(instance);
    return {};
}

}  // namespace

Result<void> confirm_move_task(NodeServices& services, const Operation& operation, bool resumed) {
    auto result = confirm(services, operation, resumed);
    return result.ok() ? result : fail_to_error(services, operation.uuid, result.error());
}

Result<void> revert_move_task(NodeServices& services, const Operation& operation) {
    auto result = revert(services, operation);
    return result.ok() ? result : fail_to_error(services, operation.uuid, result.error());
}

Result<void> finish_revert_task(NodeServices& services, const Operation& operation) {
    auto result = finish_revert(services, operation);
    return result.ok() ? result : fail_to_error(services, operation.uuid, result.error());
}

}  // namespace kumoi::compute
