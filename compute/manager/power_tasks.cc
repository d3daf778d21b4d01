#include "compute/manager/power_tasks.h"

#include <algorithm>
#include <charconv>

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
    TRY(services.driver.power_on(instance));
    return save_state(services, instance, vm_states::kActive,
                      {task_states::kPoweringOn, TaskState()}, instance.network_info);
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
