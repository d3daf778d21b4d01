#include "compute/manager/suspend_task.h"

#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
Result<void> suspend_task(NodeServices& services, const Operation& operation) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    services.journal.step(operation.journal_id, "suspend");
    auto suspended = services.driver.suspend(instance);
    if (!suspended.ok()) {
        const int power = power_state_of(services.driver, instance);
        if (power != power_states::kRunning && power != power_states::kPaused) {
            set_error_state(services, instance.uuid);
        }
        return suspended;
    }
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kSuspending});
    update.system_metadata = instance.system_metadata;
    // A second run after a crash must not take "suspended" for the state from before.
    update.system_metadata->try_emplace(kOldVmState, instance.vm_state);
    update.vm_state = vm_states::kSuspended;
    update.power_state = power_state_of(services.driver, instance);
    return services.conductor.instance_save(instance.uuid, update);
}

Result<void> resume_task(NodeServices& services, const Operation& operation) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    instance.network_info = TRY(plug_all(services, instance));
    services.journal.step(operation.journal_id, "resume");
    TRY(connect_volumes(services, operation.context, instance));
    TRY(services.driver.resume(instance));
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kResuming});
    const auto old = instance.system_metadata.find(kOldVmState);
    update.vm_state = old == instance.system_metadata.end() ? vm_states::kActive : old->second;
    update.system_metadata = instance.system_metadata;
    update.system_metadata->erase(kOldVmState);
    update.power_state = power_state_of(services.driver, instance);
    update.network_info = instance.network_info;
    return services.conductor.instance_save(instance.uuid, update);
}

}  // namespace kumoi::compute
