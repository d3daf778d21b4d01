#include "api/nova/placement_report.h"

#include "api/nova/provider_facts.h"
#include "base/log.h"

namespace kumoi::nova {
namespace {

// What this node's driver can do, in the words of Nova's driver capabilities.
const std::set<std::string>& capabilities() {
    static const std::set<std::string> all = {
        "attach_interface",     "device_tagging", "tagged_attach_interface",
        "tagged_attach_volume", "extend_volume",  "multiattach",
        "bfv_rescue",           "image_type_raw", "image_type_qcow2",
        "image_type_iso"};
    return all;
}

// A ratio of the configuration (0 counts as none, as in Nova), or where a new provider begins.
clients::AllocationRatio ratio(const Config& config, const std::string& name, double of_release) {
    clients::AllocationRatio all;
    all.initial = of_release;
    if (config.is_set("DEFAULT", "initial_" + name)) {
        all.initial = config.floating("DEFAULT", "initial_" + name);
    }
    if (config.is_set("DEFAULT", name) && config.floating("DEFAULT", name) > 0) {
        all.configured = config.floating("DEFAULT", name);
    }
    return all;
}

// Rounded up, as Nova does.
int64_t reserved_disk_gb(const Config& config) {
    constexpr int64_t kMibPerGib = 1024;
    return (config.integer("DEFAULT", "reserved_host_disk_mb") + kMibPerGib - 1) / kMibPerGib;
}

}  // namespace

PlacementReport::PlacementReport(const Config& config,
                                 std::unique_ptr<clients::ReportClient> report, Release release,
                                 bool real_guests, clients::ProviderConfigs provider_configs)
    : config_(config),
      report_(std::move(report)),
      real_guests_(real_guests),
      provider_configs_(std::move(provider_configs)),
      cpu_ratio_(ratio(config, "cpu_allocation_ratio", release == Release::Zed ? 16.0 : 4.0)),
      memory_ratio_(ratio(config, "ram_allocation_ratio", release == Release::Zed ? 1.5 : 1.0)),
      disk_ratio_(ratio(config, "disk_allocation_ratio", 1.0)) {}

Result<void> PlacementReport::update(const compute::ComputeNode& node, bool disabled) {
    const clients::Caller caller;
    const auto known = TRY(report_->provider(caller, node.uuid));
    clients::RootResources resources;
    const ProcessorShares processors =
        real_guests_ ? TRY(processor_shares(config_, node.vcpus)) : ProcessorShares{node.vcpus, 0};
    resources.vcpus = processors.shared;
    resources.pcpus = processors.dedicated;
    resources.reserved_vcpus = config_.integer("DEFAULT", "reserved_host_cpus");
    resources.reserved_disk_gb = reserved_disk_gb(config_);
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
    if (real_guests_) {
        root.traits.merge(cpu_traits(node.cpu_info_json));
        root.traits.insert(guest_traits().begin(), guest_traits().end());
    }
    for (const std::string& name : TRY(clients::merge_provider_configs(provider_configs_, root))) {
        if (warned_of_.insert(name).second) {
            log_warn("nova", "a provider of a provider config file is not this host's; ignored",
                     {{"provider", name}});
        }
    }
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
