#include "compute/manager/reboot_task.h"

#include "base/log.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

using TaskState = std::optional<std::string>;

Result<void> RebootTask::execute() {
    TRY(load_instance());
    TRY(announce());
    return record(reboot_guest());
}

Result<void> RebootTask::load_instance() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    return {};
}

Result<void> RebootTask::announce() {
    const bool soft = type_ == RebootType::Soft;
    const char* pending = soft ? task_states::kRebootPending : task_states::kRebootPendingHard;
    const char* started = soft ? task_states::kRebootStarted : task_states::kRebootStartedHard;
    const char* requested = soft ? task_states::kRebooting : task_states::kRebootingHard;
    InstanceUpdate update;
    update.task_state = TaskState(pending);
    update.expected_task_state = std::vector<TaskState>{requested, pending, started};
    TRY(services_.conductor.instance_save(instance_.uuid, update));
    update.task_state = TaskState(started);
    update.expected_task_state = std::vector<TaskState>{pending};
    return services_.conductor.instance_save(instance_.uuid, update);
}

Result<void> RebootTask::reboot_guest() {
    services_.journal.step(operation_.journal_id, "reboot");
    instance_.network_info = TRY(plug_all(services_, instance_));
    TRY(connect_volumes(services_, operation_.context, instance_));
    return services_.driver.reboot(instance_, type_);
}

Result<void> RebootTask::record(const Result<void>& rebooted) {
    InstanceUpdate update;
    update.power_state = power_state_of(services_.driver, instance_);
    update.task_state = TaskState();
    const bool running = *update.power_state == power_states::kRunning;
    update.vm_state = rebooted.ok() || running ? vm_states::kActive : vm_states::kError;
    update.network_info = instance_.network_info;
    TRY(services_.conductor.instance_save(instance_.uuid, update));
    if (rebooted.ok() || !running) {
        return rebooted;
    }
    log_warn("compute", "reboot failed, the guest runs on", {{"why", rebooted.error().text()}});
    return services_.conductor.fault_create(instance_.uuid,
                                            fault_from(rebooted.error(), services_.clock));
}

}  // namespace kumoi::compute
