#include "compute/manager/rebuild_task.h"

#include "compute/manager/device_metadata.h"
#include "compute/manager/power_tasks.h"
#include "compute/manager/volume_connections.h"
#include "compute/manager/volume_reimage.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

Result<void> RebuildTask::execute() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    auto result = run_steps();
    if (!result.ok() && !is_taken_over(result.error())) {
        set_error_state(services_, operation_.uuid);
    }
    return result;
}

Result<void> RebuildTask::run_steps() {
    TRY(announce());
    TRY(power_off());
    TRY(build());
    return record();
}

Result<void> RebuildTask::announce() {
    InstanceUpdate update =
        to_task_state(task_states::kRebuilding,
                      {task_states::kRebuilding, task_states::kRebuildBlockDeviceMapping,
                       task_states::kRebuildSpawning});
    update.power_state = power_state_of(services_.driver, instance_);
    return services_.conductor.instance_save(instance_.uuid, update);
}

Result<void> RebuildTask::power_off() {
    services_.journal.step(operation_.journal_id, "power_off");
    if (power_state_of(services_.driver, instance_) != power_states::kRunning) {
        return {};
    }
    return services_.driver.power_off(instance_,
                                      shutdown_timeout_of(instance_, services_.options, true));
}

// Attached again as it was before: with what the volume has then.
Result<void> RebuildTask::reimage_boot_volume() {
    if (!instance_.task_arguments.reimage_boot_volume) {
        return {};
    }
    services_.journal.step(operation_.journal_id, "reimage");
    return reimage_root_volume(services_, operation_.context, instance_,
                               instance_.task_arguments.image_id);
}

Result<void> RebuildTask::build() {
    TRY(services_.conductor.instance_save(
        instance_.uuid,
        to_task_state(task_states::kRebuildBlockDeviceMapping, {task_states::kRebuilding})));
    TRY(reimage_boot_volume());
    const auto volumes = TRY(connected_disks(services_, operation_.context, instance_));
    TRY(services_.conductor.instance_save(
        instance_.uuid,
        to_task_state(task_states::kRebuildSpawning, {task_states::kRebuildBlockDeviceMapping})));
    instance_.network_info = TRY(plug_all(services_, instance_));
    instance_.admin_password = admin_password_;
    const auto tagged = TRY(record_tagged_devices(services_, operation_.context, instance_));
    services_.journal.step(operation_.journal_id, "rebuild");
    TRY(services_.driver.rebuild(
        {operation_.context, instance_, instance_.task_arguments.injected_files, volumes, tagged},
        instance_.task_arguments.preserve_ephemeral));
    if (instance_.task_arguments.old_vm_state == vm_states::kStopped) {
        services_.journal.step(operation_.journal_id, "stop");
        TRY(services_.driver.power_off(instance_, 0));
    }
    return {};
}

Result<void> RebuildTask::record() {
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kRebuildSpawning});
    const bool stopped = instance_.task_arguments.old_vm_state == vm_states::kStopped;
    update.vm_state = stopped ? vm_states::kStopped : vm_states::kActive;
    update.power_state = power_state_of(services_.driver, instance_);
    update.launched_ns = services_.clock.wall_ns();
    update.network_info = instance_.network_info;
    update.progress = 100;
    return services_.conductor.instance_save(instance_.uuid, update);
}

}  // namespace kumoi::compute
