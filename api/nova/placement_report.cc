#include "api/nova/placement_report.h"

namespace kumoi::nova {
namespace {

// What this node's driver can do, in the words of Nova's driver capabilities.
const std::set<std::string>& capabilities() {
    static const std::set<std::string> all = {
        "attach_interface", "extend_volume",    "multiattach",   "bfv_rescue",
        "image_type_raw",   "image_type_qcow2", "image_type_iso"};
    return all;
}

clients::AllocationRatio ratio(const Config& config, const char* name) {
    clients::AllocationRatio all;
    all.initial = config.floating("DEFAULT", name);
    if (config.is_set("DEFAULT", name)) {
        all.configured = all.initial;
    }
    return all;
}

}  // namespace

PlacementReport::PlacementReport(const Config& config,
                                 std::unique_ptr<clients::ReportClient> report)
    : report_(std::move(report)),
      cpu_ratio_(ratio(config, "cpu_allocation_ratio")),
      memory_ratio_(ratio(config, "ram_allocation_ratio")),
      disk_ratio_(ratio(config, "disk_allocation_ratio")) {}

Result<void> PlacementReport::update(const compute::ComputeNode& node, bool disabled) {
    const clients::Caller caller;
    const auto known = TRY(report_->provider(caller, node.uuid));
    clients::RootResources resources;
    resources.vcpus = node.vcpus;
    resources.memory_mb = node.memory_mb;
    resources.disk_gb = node.local_gb;
    resources.reserved_memory_mb = node.memory_mb_reserved;
    resources.cpu_ratio = cpu_ratio_;
    resources.memory_ratio = memory_ratio_;
    resources.disk_ratio = disk_ratio_;
    clients::WantedProvider root;
    root.uuid = node.uuid;
    root.name = node.hypervisor_hostname;
    root.inventories =
        clients::root_inventory(resources, known ? known->inventories : std::nullopt);
    root.traits = clients::capability_traits(capabilities());
    TRY(report_->update_from(caller, {root}));
    return report_->set_disabled(caller, node.uuid, disabled);
}

Result<void> PlacementReport::remove(const compute::RequestContext& context,
                                     const std::string& consumer) {
    return report_->delete_allocations(clients::caller_of(context).as_service(), consumer, true);
}

Result<void> PlacementReport::move(const compute::RequestContext& context,
                                   const std::string& source, const std::string& target) {
    TRY(report_->move_allocations(clients::caller_of(context).as_service(), source, target));
    return {};
}

Result<void> PlacementReport::remove_from(const compute::RequestContext& context,
                                          const std::string& consumer,
                                          const std::string& provider_uuid) {
    return report_->remove_provider_from(clients::caller_of(context).as_service(), consumer,
                                         provider_uuid);
}

Result<std::vector<std::string>> PlacementReport::consumers_on(const std::string& provider_uuid) {
    std::vector<std::string> consumers;
    for (const auto& [consumer, resources] :
         TRY(report_->allocations_on(clients::Caller(), provider_uuid))) {
        consumers.push_back(consumer);
    }
    return consumers;
}

}  // namespace kumoi::nova
