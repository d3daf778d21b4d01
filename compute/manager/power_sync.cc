#include "compute/manager/power_sync.h"

#include "base/log.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

using TaskState = std::optional<std::string>;

bool is_down(int power_state) {
    return power_state == power_states::kShutdown || power_state == power_states::kCrashed ||
           power_state == power_states::kNoState;
}

// Only while no verb is under way: the save refuses when a task began meanwhile.
Result<void> record(NodeServices& services, const std::string& uuid, const char* vm_state,
                    int power_state) {
    InstanceUpdate update;
    if (vm_state != nullptr) {
        update.vm_state = vm_state;
    }
    update.power_state = power_state;
    update.expected_task_state = std::vector<TaskState>{TaskState()};
    return services.conductor.instance_save(uuid, update);
}

}  // namespace

PowerSyncAction decide_power_sync(const Instance& instance, int real_power_state) {
    if (instance.task_state || instance.vm_state == vm_states::kDeleted ||
        instance.vm_state == vm_states::kBuilding) {
        return PowerSyncAction::Nothing;
    }
    const bool differs = instance.power_state != real_power_state;
    const PowerSyncAction record_only =
        differs ? PowerSyncAction::RecordPower : PowerSyncAction::Nothing;
    if (instance.vm_state == vm_states::kActive) {
        if (is_down(real_power_state)) {
            return PowerSyncAction::Stop;
        }
        return real_power_state == power_states::kPaused ? PowerSyncAction::RecordPaused
                                                         : record_only;
    }
    if (instance.vm_state == vm_states::kPaused) {
        if (is_down(real_power_state)) {
            return PowerSyncAction::Stop;
        }
        return real_power_state == power_states::kRunning ? PowerSyncAction::RecordActive
                                                          : record_only;
    }
    if (instance.vm_state == vm_states::kStopped && !is_down(real_power_state)) {
        return PowerSyncAction::ForceStop;
    }
    return record_only;
}

Result<void> sync_power_state(NodeServices& services, const std::string& uuid) {
    const Instance instance = TRY(services.conductor.instance_get(uuid));
    if (instance.host != services.options.host) {
        return {};
    }
    const auto info = services.driver.get_info(instance);
    if (!info.ok() && info.error().code != ErrorCode::NotFound) {
        return info.error();  // a guest that cannot be asked is not one that is down
    }
    const int real = info.ok() ? info->power_state : power_states::kNoState;
    switch (decide_power_sync(instance, real)) {
        case PowerSyncAction::Nothing: return {};
        case PowerSyncAction::RecordPower: return record(services, uuid, nullptr, real);
        case PowerSyncAction::RecordPaused: return record(services, uuid, vm_states::kPaused, real);
        case PowerSyncAction::RecordActive: return record(services, uuid, vm_states::kActive, real);
        case PowerSyncAction::Stop:
            log_info("compute", "the guest is down; the server is now stopped",
                     {{"was", instance.vm_state}});
            TRY(services.driver.power_off(instance, 0));  // frees what a dead guest left behind
            return record(services, uuid, vm_states::kStopped,
                          power_state_of(services.driver, instance));
        case PowerSyncAction::ForceStop:
            log_warn("compute", "a stopped server's guest was running; it is powered off");
            TRY(services.driver.power_off(instance, 0));
            return record(services, uuid, nullptr, power_state_of(services.driver, instance));
    }
    return {};
}

Result<void> handle_lifecycle_event(NodeServices& services, const LifecycleEvent& event) {
    if (event.kind == LifecycleEvent::Kind::Rebooted) {
        return {};  // the guest restarted itself; nothing in the records changes
    }
    if (event.kind == LifecycleEvent::Kind::Crashed) {
        log_error("compute", "the guest crashed", {{"detail", event.detail}});
        const Error error = Error::unavailable("The guest crashed: {}", event.detail);
        TRY(services.conductor.fault_create(event.instance_uuid,
                                            fault_from(error, services.clock)));
    }
    return sync_power_state(services, event.instance_uuid);
}

}  // namespace kumoi::compute
