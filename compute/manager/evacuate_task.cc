#include "compute/manager/evacuate_task.h"

#include "base/log.h"
#include "compute/manager/cloud_records.h"
#include "compute/manager/device_metadata.h"
#include "compute/manager/move_tasks.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

const std::vector<std::optional<std::string>> kRebuilding = {
    task_states::kRebuilding, task_states::kRebuildBlockDeviceMapping,
    task_states::kRebuildSpawning};

}  // namespace

Result<void> EvacuateTask::execute(const MoveRequest& request) {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    auto result = run_steps(request);
    if (result.ok()) {
        return result;
    }
    if (recording_) {  // it may be recorded as here, and only the answer was lost: then it stays
        const auto now = services_.conductor.instance_get(operation_.uuid);
        if (!now.ok() && !is_taken_over(now.error())) {
            UnsettledOperations::note_doubt();
            claim_.keep();
            return result;
        }
        if (now.ok() && now->host == services_.options.host) {
            claim_.keep();
            return finish();
        }
    }
    claim_.abort();
    rollback(result.error());
    return result;
}

Result<void> EvacuateTask::check(const MoveRequest& request) {
    if (power_state_of(services_.driver, instance_) == power_states::kRunning) {
        return Error::conflict("Instance {} already exists.", instance_.uuid)
            .with_fault("InstanceExists");
    }
    shared_ = services_.driver.has_disks(instance_);
    if (request.on_shared_storage && *request.on_shared_storage != shared_) {
        return Error::invalid("Invalid shared storage: server {}'s disks are {} this host's folder",
                              instance_.uuid, shared_ ? "in" : "not in")
            .with_hint("Leave onSharedStorage out, as newer clients do.")
            .with_fault("InvalidSharedStorage");
    }
    return {};
}

Result<void> EvacuateTask::claim() {
    services_.tracker.release(instance_.uuid);  // an earlier try that failed
    claim_ = TRY(services_.tracker.claim(instance_));
    if (services_.cloud != nullptr) {
        TRY(services_.cloud->check_group(operation_.context, instance_.uuid, false));
    }
    InstanceUpdate update;
    update.expected_task_state = kRebuilding;
    return services_.moves->prepare(instance_.uuid, update, services_.options.host,
                                    services_.options.host_ip);
}

Result<void> EvacuateTask::run_steps(const MoveRequest& request) {
    TRY(claim());
    TRY(check(request));
    InstanceUpdate update = to_task_state(task_states::kRebuilding, kRebuilding);
    update.power_state = power_state_of(services_.driver, instance_);
    TRY(services_.conductor.instance_save(instance_.uuid, update));
    services_.journal.step(operation_.journal_id, "connect");
    touched_ = true;
    instance_.network_info = TRY(moves::connect_here(services_, operation_, instance_));
    update = to_task_state(task_states::kRebuildBlockDeviceMapping, {task_states::kRebuilding});
    update.network_info = instance_.network_info;
    TRY(services_.conductor.instance_save(instance_.uuid, update));
    TRY(services_.conductor.instance_save(
        instance_.uuid,
        to_task_state(task_states::kRebuildSpawning, {task_states::kRebuildBlockDeviceMapping})));
    services_.journal.step(operation_.journal_id, shared_ ? "power_on" : kMakesDisks);
    TRY(start_guest(request.admin_password));
    const bool stopped = request.leave_stopped || instance_.vm_state == vm_states::kStopped;
    if (stopped) {
        TRY(services_.driver.power_off(instance_, 0));
    }
    TRY(record(stopped));
    services_.tracker.set_building(instance_.uuid, false);
    claim_.keep();
    return {};
}

Result<void> EvacuateTask::start_guest(const std::string& admin_password) {
    // The dead host's connections are given up first: Cinder counts them as the server's.
    TRY(reserve_volumes(services_, operation_.context, instance_));
    if (shared_) {
        TRY(moves::bring_volumes(services_, operation_, instance_));
        return services_.driver.power_on(instance_);
    }
    Instance fresh = instance_;
    fresh.admin_password = admin_password;
    const auto volumes = TRY(attach_volumes(services_, operation_.context, instance_));
    const auto tagged = TRY(record_tagged_devices(services_, operation_.context, instance_));
    return services_.driver.spawn({operation_.context, fresh, {}, volumes, tagged});
}

Result<void> EvacuateTask::record(bool stopped) {
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kRebuildSpawning});
    update.vm_state = stopped ? vm_states::kStopped : vm_states::kActive;
    update.power_state = power_state_of(services_.driver, instance_);
    update.launched_ns = services_.clock.wall_ns();
    recording_ = true;
    TRY(services_.moves->save_host(instance_.uuid, update, MoveEnd::Destination));
    services_.journal.step(operation_.journal_id, "recorded");
    return finish();
}

// From here on the server is ours: what is missing is done later.
Result<void> EvacuateTask::finish() {
    undo_or_retry(services_.moves->drop_context(instance_.uuid),
                  "the context of an evacuation was not removed");
    undo_or_retry(services_.conductor.migration_save(instance_.uuid, "done"),
                  "the end of an evacuation was not recorded");
    return {};
}

Result<void> EvacuateTask::give_up_after_restart(bool made_disks) {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    if (instance_.host == services_.options.host) {  // recorded; only the end was not
        return services_.conductor.migration_save(instance_.uuid, "done");
    }
    shared_ = !made_disks;  // never remove what the other host may have made
    touched_ = true;
    const Error reason = Error::unavailable("The node was restarted while it evacuated this server")
                             .with_hint("Evacuate it again.");
    rollback(reason);
    return reason;
}

void EvacuateTask::rollback(const Error& reason) {
    services_.journal.step(operation_.journal_id, "rollback");
    if (touched_) {
        const auto left = services_.driver.leave(instance_, shared_);
        const auto unplugged = unplug_all(services_, instance_);
        const auto reserved = reserve_volumes(services_, operation_.context, instance_);
        for (const Result<void>* result : {&left, &unplugged, &reserved}) {
            warn_unless_ok(*result, "cleaning up a failed evacuation failed");
        }
    }
    warn_unless_ok(services_.conductor.migration_save(instance_.uuid, "failed"),
                   "the end of an evacuation was not recorded");
    warn_unless_ok(services_.moves->drop_allocation_here(instance_.uuid),
                   "the allocation of a failed evacuation was not removed");
    if (is_taken_over(reason)) {
        return;
    }
    record_fault(services_, instance_.uuid, reason);
    InstanceUpdate update;
    update.task_state = std::optional<std::string>();
    if (touched_) {  // else it is as it was, and another host may take it
        update.vm_state = vm_states::kError;
    }
    warn_unless_ok(services_.conductor.instance_save(instance_.uuid, update),
                   "the end of a failed evacuation was not recorded");
}

}  // namespace kumoi::compute
