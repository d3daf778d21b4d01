#include "compute/manager/resize_task.h"

#include "base/log.h"
#include "compute/manager/move_tasks.h"
#include "compute/manager/power_tasks.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

// The record of a server whose resize is over: one flavor, nothing remembered.
InstanceUpdate end_of_resize(const Instance& instance,
                             std::vector<std::optional<std::string>> from) {
    InstanceUpdate update = to_task_state(std::nullopt, std::move(from));
    update.old_flavor = std::optional<Flavor>();
    update.new_flavor = std::optional<Flavor>();
    update.system_metadata = moves::without_old_vm_state(instance.system_metadata);
    return update;
}

Instance with_old_flavor(Instance instance) {
    if (instance.old_flavor) {
        instance.flavor = *instance.old_flavor;
    }
    instance.old_flavor = std::nullopt;
    instance.new_flavor = std::nullopt;
    return instance;
}

}  // namespace

Result<void> ResizeTask::execute() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    return undo_if_failed([this]() -> Result<void> {
        TRY(prep_resize());
        TRY(migrate_disk());
        return finish_resize();
    }());
}

Result<void> ResizeTask::finish_after_restart() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    if (instance_.old_flavor) {  // the record took the new flavor: forward
        return undo_if_failed(finish_resize());
    }
    return undo_if_failed(Error::unavailable("The node was restarted while it resized this server")
                              .with_hint("Resize it again."));
}

Result<void> ResizeTask::undo_if_failed(Result<void> result) {
    if (result.ok() || is_taken_over(result.error())) {
        return result;
    }
    const auto undone = rollback();
    if (!undone.ok()) {
        log_error("compute", "a failed resize could not be undone",
                  {{"why", undone.error().text()}});
        set_error_state(services_, instance_.uuid);
    }
    return result;
}

Result<void> ResizeTask::prep_resize() {
    TRY(services_.tracker.resize_claim(instance_));
    TRY(services_.conductor.migration_save(instance_.uuid, "migrating"));
    InstanceUpdate update =
        to_task_state(task_states::kResizeMigrating, {task_states::kResizePrep});
    update.system_metadata = instance_.system_metadata;
    update.system_metadata->insert_or_assign(kOldVmState, instance_.vm_state);
    TRY(services_.conductor.instance_save(instance_.uuid, update));
    instance_.system_metadata = *update.system_metadata;
    return {};
}

Result<void> ResizeTask::migrate_disk() {
    services_.journal.step(operation_.journal_id, "migrate_disk");
    TRY(services_.driver.migrate_disk_and_power_off(
        instance_, *instance_.new_flavor, shutdown_timeout_of(instance_, services_.options, true)));
    services_.journal.step(operation_.journal_id, "migrated");
    TRY(services_.conductor.migration_save(instance_.uuid, "post-migrating"));
    InstanceUpdate update =
        to_task_state(task_states::kResizeMigrated, {task_states::kResizeMigrating});
    update.old_flavor = std::optional(instance_.flavor);
    update.flavor = *instance_.new_flavor;
    TRY(services_.conductor.instance_save(instance_.uuid, update));
    instance_.old_flavor = instance_.flavor;
    instance_.flavor = *instance_.new_flavor;
    return {};
}

Result<void> ResizeTask::finish_resize() {
    TRY(services_.conductor.instance_save(
        instance_.uuid, to_task_state(task_states::kResizeFinish,
                                      {task_states::kResizeMigrated, task_states::kResizeFinish})));
    instance_.network_info = TRY(plug_all(services_, instance_));
    services_.journal.step(operation_.journal_id, "finish");
    TRY(services_.driver.finish_migration(instance_, moves::ran_before(instance_)));
    TRY(services_.conductor.migration_save(instance_.uuid, "finished"));
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kResizeFinish});
    update.vm_state = vm_states::kResized;
    update.power_state = power_state_of(services_.driver, instance_);
    update.launched_ns = services_.clock.wall_ns();
    update.network_info = instance_.network_info;
    update.progress = 100;
    return services_.conductor.instance_save(instance_.uuid, update);
}

Result<void> ResizeTask::rollback() {
    services_.journal.step(operation_.journal_id, "rollback");
    Instance old = with_old_flavor(instance_);
    old.network_info = TRY(plug_all(services_, old));
    // Before it was touched vm_state is the only record of what it was.
    const auto kept = old.system_metadata.find(kOldVmState);
    const std::string vm_state = kept == old.system_metadata.end() ? old.vm_state : kept->second;
    TRY(services_.driver.finish_revert_migration(old, vm_state != vm_states::kStopped));
    TRY(services_.conductor.migration_save(old.uuid, "error"));
    InstanceUpdate update = end_of_resize(
        old, {task_states::kResizePrep, task_states::kResizeMigrating, task_states::kResizeMigrated,
              task_states::kResizeFinish, std::nullopt});
    update.flavor = old.flavor;
    update.vm_state = vm_state;
    update.power_state = power_state_of(services_.driver, old);
    update.network_info = old.network_info;
    TRY(services_.conductor.instance_save(old.uuid, update));
    services_.tracker.set_share(old);
    return {};
}

Result<void> confirm_resize_task(NodeServices& services, const Operation& operation) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    services.journal.step(operation.journal_id, "confirm");
    TRY(services.driver.confirm_migration(instance));
    TRY(services.conductor.migration_save(instance.uuid, "confirmed"));
    InstanceUpdate update = end_of_resize(instance, {task_states::kResizeConfirming});
    update.power_state = power_state_of(services.driver, instance);
    const bool down = *update.power_state == power_states::kShutdown;
    update.vm_state = down ? vm_states::kStopped : vm_states::kActive;
    TRY(services.conductor.instance_save(instance.uuid, update));
    instance.old_flavor = instance.new_flavor = std::nullopt;
    services.tracker.set_share(instance);
    return {};
}

Result<void> revert_resize_task(NodeServices& services, const Operation& operation) {
    const Instance resized = TRY(services.conductor.instance_get(operation.uuid));
    Instance instance = with_old_flavor(resized);
    instance.network_info = TRY(plug_all(services, instance));
    services.journal.step(operation.journal_id, "revert");
    const bool power_on = moves::ran_before(instance);
    auto reverted = services.driver.finish_revert_migration(instance, power_on);
    if (!reverted.ok()) {
        set_error_state(services, instance.uuid);
        return reverted;
    }
    TRY(services.conductor.migration_save(instance.uuid, "reverted"));
    InstanceUpdate update = end_of_resize(instance, {task_states::kResizeReverting});
    update.flavor = instance.flavor;
    update.vm_state = power_on ? vm_states::kActive : vm_states::kStopped;
    update.power_state = power_state_of(services.driver, instance);
    update.launched_ns = services.clock.wall_ns();
    update.network_info = instance.network_info;
    TRY(services.conductor.instance_save(instance.uuid, update));
    services.tracker.set_share(instance);
    return {};
}

}  // namespace kumoi::compute
