#include "compute/manager/interface_task.h"

#include <algorithm>

#include "base/log.h"
#include "compute/manager/device_metadata.h"
#include "compute/manager/unsettled.h"
#include "compute/nic_slots.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr char kDetachStep[] = "detach ";  // and the port
constexpr char kUsersPortStep[] = "allocate port ";
constexpr char kRollbackStep[] = "rollback";

Error no_such_port(const Instance& instance, const std::string& port_id) {
    return Error::not_found("Port {} is not attached to server {}", port_id, instance.uuid)
        .with_fault("PortNotFound");
}

// Read again: a request to detach another one may have been recorded meanwhile.
Result<void> save_vifs(NodeServices& services, const std::string& uuid,
                       const std::function<void(std::vector<VifInfo>&)>& change) {
    const Instance now = TRY(services.conductor.instance_get(uuid));
    InstanceUpdate update;
    update.network_info = now.network_info;
    assign_nic_slots(*update.network_info);
    change(*update.network_info);
    return services.conductor.instance_save(uuid, update);
}

}  // namespace

Result<VifInfo> AttachInterfaceTask::execute(const RequestedNetwork& requested) {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    if (instance_.task_state == task_states::kDeleting) {
        return Error::conflict("Server {} is being deleted", instance_.uuid)
            .with_fault("UnexpectedDeletingTaskStateError");
    }
    auto allocated = allocate(requested);
    auto attached = allocated.ok() ? attach(*allocated) : std::move(allocated);
    if (!attached.ok() && !is_taken_over(attached.error())) {
        record_fault(services_, operation_.uuid, attached.error());
    }
    return attached;
}

Result<VifInfo> AttachInterfaceTask::allocate(const RequestedNetwork& requested) {
    if (instance_.network_info.size() >= kNicsMax) {
        return Error::conflict("Server {} has {} interfaces, which is the most a server may have",
                               instance_.uuid, instance_.network_info.size())
            .with_hint("Detach one first.")
            .with_fault("InterfaceAttachFailed");
    }
    RequestContext tenant = operation_.context;
    tenant.project_id = instance_.project_id;
    const bool automatic = !requested.network_id && !requested.port_id;
    std::vector<RequestedNetwork> wanted;
    if (!automatic) {
        wanted.push_back(requested);
    }
    const auto checked = TRY(
        services_.network.validate_networks(tenant, wanted, automatic, instance_.security_groups));
    if (checked.empty()) {
        return Error::invalid(
                   "No specific network was requested and none are available for project '{}'.",
                   instance_.project_id)
            .with_hint("Create a network, or name one.")
            .with_fault("InterfaceAttachFailedNoNetwork");
    }
    services_.journal.step(operation_.journal_id,
                           requested.port_id ? kUsersPortStep + *requested.port_id : "allocate");
    VifInfo vif =
        TRY(services_.network.allocate_port_for_instance(tenant, instance_, checked.front()));
    vif.tag = requested.tag.value_or("");
    return vif;
}

Result<VifInfo> AttachInterfaceTask::attach(VifInfo vif) {
    instance_.network_info.push_back(vif);
    assign_nic_slots(instance_.network_info);
    VifInfo& added = instance_.network_info.back();
    auto result = [&]() -> Result<void> {
        services_.journal.step(operation_.journal_id, "plug");
        added.tap_name = TRY(services_.vifs.plug(instance_, added));
        services_.journal.step(operation_.journal_id, "attach");
        TRY_CONTEXT(services_.driver.attach_interface(instance_, added),
                    "Failed to attach network adapter device to {}", instance_.uuid);
        services_.journal.step(operation_.journal_id, "record");
        TRY(record(added));
        renew_tagged_devices(services_, operation_.context, instance_.uuid, added.tag);
        return {};
    }();
    if (!result.ok()) {
        rollback(added);
        Error error = std::move(result).error();
        return error.fault.empty() ? std::move(error).with_fault("InterfaceAttachFailed") : error;
    }
    return added;
}

Result<void> AttachInterfaceTask::record(const VifInfo& vif) {
    return save_vifs(services_, instance_.uuid,
                     [&](std::vector<VifInfo>& vifs) { vifs.push_back(vif); });
}

void AttachInterfaceTask::rollback(const VifInfo& vif) {
    services_.journal.step(operation_.journal_id, kRollbackStep);
    Instance before = instance_;
    std::erase_if(before.network_info,
                  [&](const VifInfo& other) { return other.port_id == vif.port_id; });
    undo_or_retry(services_.driver.detach_interface(before, vif),
                  "a card that was not attached stays in its guest");
    undo_or_retry(services_.vifs.unplug(before, vif), "a device that was not attached stays");
    undo_or_retry(
        services_.network.deallocate_port_for_instance(operation_.context, instance_, vif.port_id),
        "a port that was not attached stays");
}

// Recorded, though only the answer was lost, and undone then.
Result<void> AttachInterfaceTask::forget_unbound(const std::vector<VifInfo>& bound) {
    const auto is_lost = [&](const VifInfo& vif) {
        return find_vif(bound, vif.port_id) == nullptr;
    };
    if (std::ranges::none_of(instance_.network_info, is_lost)) {
        return {};
    }
    std::erase_if(instance_.network_info, is_lost);
    return save_vifs(services_, instance_.uuid,
                     [&](std::vector<VifInfo>& vifs) { std::erase_if(vifs, is_lost); });
}

Result<void> AttachInterfaceTask::finish_after_restart(const std::set<std::string>& steps) {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    const auto bound = TRY(services_.network.refresh(operation_.context, instance_));
    if (steps.contains(kRollbackStep)) {
        TRY(forget_unbound(bound));
    }
    bool any = false;
    for (VifInfo vif : bound) {
        vif.created_by_nova = vif.created_by_nova && !steps.contains(kUsersPortStep + vif.port_id);
        if (find_vif(instance_.network_info, vif.port_id) == nullptr) {
            if (steps.contains(kRollbackStep)) {  // the caller was told that it failed
                const VifInfo left = vif;
                instance_.network_info.push_back(left);
                rollback(left);
                continue;
            }
            any = true;
            auto attached = attach(vif);
            if (!attached.ok()) {
                record_fault(services_, operation_.uuid, attached.error());
                return std::move(attached).error();
            }
        }
    }
    if (any) {
        log_info("compute", "an interface was attached after all");
    }
    return {};
}

Result<void> detach_interface_task(NodeServices& services, const Operation& operation,
                                   const std::string& port_id) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    assign_nic_slots(instance.network_info);
    const VifInfo* found = find_vif(instance.network_info, port_id);
    if (found == nullptr) {
        return no_such_port(instance, port_id);
    }
    const VifInfo vif = *found;
    const auto is_it = [&](const VifInfo& other) { return other.port_id == port_id; };
    Instance without = instance;
    std::erase_if(without.network_info, is_it);
    bool has_left = false;  // the guest
    auto result = [&]() -> Result<void> {
        services.journal.step(operation.journal_id, kDetachStep + port_id);
        TRY(services.driver.detach_interface(without, vif));
        has_left = true;
        services.journal.step(operation.journal_id, "unplug");
        TRY(services.vifs.unplug(without, vif));
        services.journal.step(operation.journal_id, "deallocate");
        TRY(services.network.deallocate_port_for_instance(operation.context, without, port_id));
        services.journal.step(operation.journal_id, "record");
        TRY(save_vifs(services, instance.uuid,
                      [&](std::vector<VifInfo>& vifs) { std::erase_if(vifs, is_it); }));
        renew_tagged_devices(services, operation.context, instance.uuid, vif.tag);
        return {};
    }();
    if (!result.ok() && !is_taken_over(result.error())) {
        record_fault(services, operation.uuid, result.error());
        if (has_left) {  // only the rest is missing, and is done later
            UnsettledOperations::note_doubt();
        }
        warn_unless_ok(save_vifs(services, instance.uuid,
                                 [&](std::vector<VifInfo>& vifs) {
                                     for (VifInfo& other : vifs) {
                                         other.detaching = other.detaching && !is_it(other);
                                     }
                                 }),
                       "the end of a failed detach was not recorded");
    }
    return result;
}

Result<void> finish_detaches(NodeServices& services, const Operation& operation,
                             const std::set<std::string>& steps) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    Result<void> first_failure;
    for (const VifInfo& vif : instance.network_info) {
        if (!vif.detaching && !steps.contains(kDetachStep + vif.port_id)) {
            continue;
        }
        auto done = detach_interface_task(services, operation, vif.port_id);
        if (!done.ok() && first_failure.ok()) {
            first_failure = std::move(done);
        }
    }
    return first_failure;
}

}  // namespace kumoi::compute
