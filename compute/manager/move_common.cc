// What the tasks of a move between hosts share.
#include "compute/manager/device_metadata.h"
#include "compute/manager/move_tasks.h"
#include "compute/manager/vif_plugging.h"
#include "compute/manager/volume_connections.h"
#include "compute/nic_slots.h"
#include "compute/vm_states.h"

namespace kumoi::compute::moves {

bool is_same_host(const Migration& migration) {
    return migration.source_compute == migration.dest_compute;
}

bool ran_before(const Instance& instance) {
    const auto old = instance.system_metadata.find(kOldVmState);
    return old == instance.system_metadata.end() || old->second != vm_states::kStopped;
}

Properties without_old_vm_state(Properties system_metadata) {
    system_metadata.erase(kOldVmState);
    return system_metadata;
}

Result<bool> shares_storage(NodeServices& services, const Instance& instance,
                            const std::string& other) {
    if (other == services.options.host) {
        return true;
    }
    const std::string probe = TRY(services.driver.make_probe());
    if (probe.empty()) {
        return false;
    }
    auto seen = services.moves->sees_file(instance.uuid, other, probe);
    services.driver.remove_probe(probe);
    return seen;
}

Result<std::vector<VifInfo>> connect_here(NodeServices& services, const Operation& operation,
                                          Instance instance) {
    TRY(services.network.rebind(operation.context, instance, services.options.host));
    auto vifs = TRY(services.network.refresh(operation.context, instance));
    keep_nic_slots(vifs, instance.network_info);
    instance.network_info = std::move(vifs);
    return plug_and_wait(services, instance);
}

Result<void> bring_volumes(NodeServices& services, const Operation& operation,
                           const Instance& instance) {
    if (services.volumes != nullptr) {
        const auto disks = TRY(attach_volumes(services, operation.context, instance));
        TRY(services.driver.set_volumes(instance, disks));
    }
    TRY(record_tagged_devices(services, operation.context, instance));
    return {};
}

Result<void> restore_here(NodeServices& services, const Instance& instance,
                          const std::vector<VolumeDisk>& volumes) {
    // One that runs (its leaving failed early, or a crash came after its start) has them.
    if (volumes.empty() || power_state_of(services.driver, instance) == power_states::kRunning) {
        return services.driver.finish_revert_migration(instance, ran_before(instance));
    }
    // The folder comes back with the places its volumes had; their back ends are others now.
    TRY(services.driver.finish_revert_migration(instance, false));
    TRY(services.driver.set_volumes(instance, volumes));
    return ran_before(instance) ? services.driver.power_on(instance) : Result<void>();
}

}  // namespace kumoi::compute::moves
