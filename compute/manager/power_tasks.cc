#include "compute/manager/power_tasks.h"

#include <algorithm>
#include <charconv>

#include "compute/manager/shelve_task.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kShutdownTimeoutMax = 3600;  // seconds an image may ask for

using TaskState = std::optional<std::string>;

// The record after a power verb: task_state is cleared, and had to be `expected` until now.
Result<void> save_state(NodeServices& services, const Instance& instance, const char* vm_state,
                        std::vector<TaskState> expected,
                        const std::optional<std::vector<VifInfo>>& network_info = {}) {
    InstanceUpdate update;
    update.vm_state = vm_state;
    update.power_state = power_state_of(services.driver, instance);
    update.task_state = TaskState();
    update.expected_task_state = std::move(expected);
    update.network_info = network_info;
    return services.conductor.instance_save(instance.uuid, update);
}

}  // namespace

Result<void> start_task(NodeServices& services, const Operation& operation) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    instance.network_info = TRY(plug_all(services, instance));  // lost when the host was restarted
    services.journal.step(operation.journal_id, "power_on");
    TRY(connect_volumes(services, operation.context, instance));
    TRY(services.driver.power_on(instance));
    InstanceUpdate update = to_task_state(TaskState(), {task_states::kPoweringOn, TaskState()});
    update.vm_state = vm_states::kActive;
    update.power_state = power_state_of(services.driver, instance);
    update.network_info = instance.network_info;
    const auto shelved = instance.system_metadata.find(kShelvedImageId);
    if (shelved != instance.system_metadata.end()) {  // unshelved without ever leaving the host
        update.system_metadata = without_shelved_keys(instance.system_metadata);
    }
    TRY(services.conductor.instance_save(instance.uuid, update));
    if (update.system_metadata) {
        forget_shelved_image(services, operation.context, shelved->second);
    }
    return {};
}

Result<void> stop_task(NodeServices& services, const Operation& operation, bool clean_shutdown) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    services.journal.step(operation.journal_id, "power_off");
    TRY(services.driver.power_off(instance,
                                  shutdown_timeout_of(instance, services.options, clean_shutdown)));
    // null too: the guest may have shut itself down, and its event cleared the task meanwhile.
    return save_state(services, instance, vm_states::kStopped,
                      {task_states::kPoweringOff, TaskState()});
}

Result<void> pause_task(NodeServices& services, const Operation& operation) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    services.journal.step(operation.journal_id, "pause");
    TRY(services.driver.pause(instance));
    return save_state(services, instance, vm_states::kPaused, {task_states::kPausing});
}

Result<void> unpause_task(NodeServices& services, const Operation& operation) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    services.journal.step(operation.journal_id, "unpause");
    TRY(services.driver.unpause(instance));
    return save_state(services, instance, vm_states::kActive, {task_states::kUnpausing});
}

Result<void> soft_delete_task(NodeServices& services, const Operation& operation) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    services.journal.step(operation.journal_id, "power_off");
    const auto off =
        services.driver.power_off(instance, shutdown_timeout_of(instance, services.options, true));
    if (!off.ok() && !is_instance_gone(off.error())) {  // without a guest it is off
        return off;
    }
    return save_state(services, instance, vm_states::kSoftDeleted, {task_states::kSoftDeleting});
}

Result<void> restore_task(NodeServices& services, const Operation& operation) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    instance.network_info = TRY(plug_all(services, instance));
    services.journal.step(operation.journal_id, "power_on");
    TRY(connect_volumes(services, operation.context, instance));
    TRY(services.driver.power_on(instance));
    return save_state(services, instance, vm_states::kActive, {task_states::kRestoring},
                      instance.network_info);
}

Result<void> resume_state_task(NodeServices& services, const Operation& operation) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    instance.network_info = TRY(plug_all(services, instance));
    services.journal.step(operation.journal_id, "power_on");
    TRY(connect_volumes(services, operation.context, instance));
    TRY(services.driver.power_on(instance));
    InstanceUpdate update = to_task_state(TaskState(), {TaskState()});
    update.power_state = power_state_of(services.driver, instance);
    update.network_info = instance.network_info;
    return services.conductor.instance_save(instance.uuid, update);
}

int64_t shutdown_timeout_of(const Instance& instance, const ManagerOptions& options, bool clean) {
    if (!clean) {
        return 0;
    }
    const auto property = instance.image.properties.find("os_shutdown_timeout");
    if (property == instance.image.properties.end()) {
        return options.shutdown_timeout_s;
    }
    int64_t seconds = 0;
    const std::string& text = property->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (error != std::errc() || end != text.data() + text.size()) {
        return options.shutdown_timeout_s;  // not a number: Nova ignores it too
    }
    return std::clamp<int64_t>(seconds, 0, kShutdownTimeoutMax);
}

}  // namespace kumoi::compute
