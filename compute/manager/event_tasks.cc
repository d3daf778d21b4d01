#include "compute/manager/event_tasks.h"

#include "base/log.h"
#include "compute/manager/compute_manager.h"
#include "compute/manager/device_metadata.h"
#include "compute/manager/power_tasks.h"
#include "compute/manager/volume_task.h"
#include "compute/nic_slots.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

bool is_here(const NodeServices& services, const Instance& instance) {
    return instance.host == services.options.host;
}

}  // namespace

Result<void> refresh_network_task(NodeServices& services, const RequestContext& context,
                                  const std::string& uuid) {
    const Instance instance = TRY(services.conductor.instance_get(uuid));
    if (!is_here(services, instance) || instance.network_info.empty()) {
        return {};
    }
    std::vector<VifInfo> found = TRY(services.network.refresh(context, instance));
    keep_nic_slots(found, instance.network_info);
    InstanceUpdate update;
    update.network_info = instance.network_info;
    for (VifInfo& vif : *update.network_info) {
        const VifInfo* fresh = find_vif(found, vif.port_id);
        if (fresh == nullptr) {
            continue;
        }
        const bool detaching = vif.detaching;
        const std::string tap_name = vif.tap_name;
        vif = *fresh;
        vif.detaching = detaching;
        vif.tap_name = tap_name;
    }
    return services.conductor.instance_save(uuid, update);
}

Result<void> vif_deleted_task(NodeServices& services, const std::string& uuid,
                              const std::string& port_id) {
    Instance instance = TRY(services.conductor.instance_get(uuid));
    assign_nic_slots(instance.network_info);
    const VifInfo* found = find_vif(instance.network_info, port_id);
    if (!is_here(services, instance) || found == nullptr) {
        return {};  // this node took it away itself
    }
    const VifInfo vif = *found;
    std::erase_if(instance.network_info,
                  [&](const VifInfo& other) { return other.port_id == port_id; });
    log_info("compute", "a port of this server was deleted", {{"port", port_id}});
    InstanceUpdate update;
    update.network_info = instance.network_info;
    TRY(services.conductor.instance_save(uuid, update));
    renew_tagged_devices(services, {}, uuid, vif.tag);
    warn_unless_ok(services.driver.detach_interface(instance, vif),
                   "the card of a deleted port stays in its guest");
    warn_unless_ok(services.vifs.unplug(instance, vif), "the device of a deleted port stays");
    return {};
}

Result<void> power_update_task(NodeServices& services, const RequestContext& context,
                               const std::string& uuid, bool on) {
    const Instance instance = TRY(services.conductor.instance_get(uuid));
    const char* from = on ? vm_states::kStopped : vm_states::kActive;
    if (!is_here(services, instance) || instance.task_state || instance.vm_state != from) {
        log_info("compute", "a power-update event changes nothing",
                 {{"server", uuid},
                  {"vm_state", instance.vm_state},
                  {"task_state", instance.task_state.value_or("")}});
        return {};
    }
    TRY(services.conductor.instance_save(
        uuid,
        to_task_state(on ? task_states::kPoweringOn : task_states::kPoweringOff, {std::nullopt})));
    run_verb(services, on ? verbs::kStart : verbs::kStop, context, uuid,
             [&](const Operation& operation) {
                 return on ? start_task(services, operation) : stop_task(services, operation, true);
             });
    return {};
}

// ComputeManager, part four: events of other services.
Result<void> ComputeManager::external_instance_event(const RequestContext& context,
                                                     const std::string& uuid,
                                                     const ServerEvent& event) {
    const bool refresh = event.kind == ServerEvent::Kind::NetworkChanged;
    if (refresh) {
        const std::lock_guard lock(refresh_mutex_);
        if (!refreshes_queued_.insert(uuid).second) {
            return {};  // one that has not begun sees this change too
        }
    }
    auto queued = queue_.submit(uuid, ServerQueue::Lane::Other, [this, context, uuid, event] {
        handle_event(context, uuid, event);
    });
    if (refresh && !queued.ok()) {
        const std::lock_guard lock(refresh_mutex_);
        refreshes_queued_.erase(uuid);
    }
    return queued;
}

void ComputeManager::handle_event(const RequestContext& context, const std::string& uuid,
                                  const ServerEvent& event) {
    const LogScope scope({{"request", context.request_id}, {"server", uuid}});
    const auto handled = [&]() -> Result<void> {
        switch (event.kind) {
            case ServerEvent::Kind::NetworkChanged: {
                {
                    const std::lock_guard lock(refresh_mutex_);
                    refreshes_queued_.erase(uuid);
                }
                return refresh_network_task(services_, context, uuid);
            }
            case ServerEvent::Kind::VifDeleted:
                return vif_deleted_task(services_, uuid, event.port_id);
            case ServerEvent::Kind::PowerOn:
                return power_update_task(services_, context, uuid, true);
            case ServerEvent::Kind::PowerOff:
                return power_update_task(services_, context, uuid, false);
            case ServerEvent::Kind::VolumeExtended:
                run_verb(services_, verbs::kExtendVolume, context, uuid,
                         [&](const Operation& operation) {
                             return extend_volume_task(services_, operation, event.port_id);
                         });
                return {};
        }
        return {};
    }();
    if (!handled.ok() && !is_taken_over(handled.error())) {
        warn_unless_ok(handled, "an event of another service was not followed");
    }
}

}  // namespace kumoi::compute
