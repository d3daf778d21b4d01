// finish_resize, on the destination: the disks come here, the ports too, and the guest starts with
// its new flavor.
#include "base/log.h"
#include "compute/manager/move_tasks.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

Result<void> FinishResizeTask::execute(const std::string& disk_info) {
    return run(disk_info);
}

Result<void> FinishResizeTask::finish_after_restart() {
    const auto now = services_.conductor.instance_get(operation_.uuid);
    if (!now.ok()) {
        return now.error();
    }
    if (now->task_state == task_states::kResizeReverting && now->host == services_.options.host) {
        instance_ = *now;
        migration_ = TRY(services_.moves->migration(operation_.uuid));
        has_disks_ = true;  // not known: what a move brought is no loss
        return give_back();
    }
    if (now->task_state != task_states::kResizeMigrated &&
        now->task_state != task_states::kResizeFinish) {
        return {};  // recorded, or another's by now
    }
    return run({});
}

Result<void> FinishResizeTask::run(const std::string& disk_info) {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    migration_ = TRY(services_.moves->migration(operation_.uuid));
    TRY(begin());
    auto result = run_steps(disk_info);
    if (result.ok() || is_taken_over(result.error())) {
        return result;
    }
    const auto sent = send_back(result.error());
    if (!sent.ok() && is_taken_over(sent.error())) {
        return sent;  // a delete's, or it was recorded as here and only the answer was lost
    }
    if (!sent.ok()) {
        log_error("compute", "a server that could not come here was not given back",
                  {{"why", sent.error().text()}});
        set_error_state(services_, instance_.uuid);
    }
    return result;
}

Result<void> FinishResizeTask::begin() {
    const Flavor flavor = instance_.new_flavor.value_or(instance_.flavor);
    InstanceUpdate update = to_task_state(
        task_states::kResizeFinish, {task_states::kResizeMigrated, task_states::kResizeFinish});
    update.flavor = flavor;
    TRY(services_.conductor.instance_save(instance_.uuid, update));
    instance_.flavor = flavor;
    return {};
}

Result<void> FinishResizeTask::run_steps(const std::string& disk_info) {
    services_.journal.step(operation_.journal_id, "receive");
    TRY(services_.driver.receive_disk(instance_, disk_info));
    has_disks_ = true;
    services_.journal.step(operation_.journal_id, "connect");
    instance_.network_info = TRY(moves::connect_here(services_, operation_, instance_));
    TRY(moves::bring_volumes(services_, operation_, instance_));
    services_.journal.step(operation_.journal_id, "finish");
    TRY(services_.driver.finish_migration(instance_, moves::ran_before(instance_)));
    return record();
}

Result<void> FinishResizeTask::record() {
    TRY(services_.conductor.migration_save(instance_.uuid, "finished"));
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kResizeFinish});
    update.vm_state = vm_states::kResized;
    update.power_state = power_state_of(services_.driver, instance_);
    update.launched_ns = services_.clock.wall_ns();
    update.network_info = instance_.network_info;
    update.progress = 100;
    return services_.conductor.instance_save(instance_.uuid, update);
}

// Nova leaves such a server in ERROR, here, with its disks there. We know that the source has all
// of it, and that it is one of ours.
Result<void> FinishResizeTask::send_back(const Error& reason) {
    TRY(services_.conductor.instance_save(
        instance_.uuid,
        to_task_state(task_states::kResizeReverting, {task_states::kResizeFinish})));
    record_fault(services_, instance_.uuid, reason);
    return give_back();
}

Result<void> FinishResizeTask::give_back() {
    services_.journal.step(operation_.journal_id, "give_back");
    const bool shared = TRY(moves::shares_storage(services_, instance_, migration_.source_compute));
    TRY(services_.driver.leave(instance_, shared || !has_disks_));
    TRY(unplug_all(services_, instance_));
    warn_unless_ok(reserve_volumes(services_, operation_.context, instance_),
                   "volumes of a server that is given back are not free yet");
    TRY(services_.conductor.migration_save(instance_.uuid, "error"));
    if (!moves::is_same_host(migration_)) {
        services_.tracker.release(instance_.uuid);
    }
    return services_.moves->cast(instance_.uuid, MoveCast::FinishRevertResize, {});
}

}  // namespace kumoi::compute
