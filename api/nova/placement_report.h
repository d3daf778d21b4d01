// PlacementReport: what one node says to Placement: its resource provider after each record of the
// inventory, and the allocations of servers that are gone. Any thread; blocks.
#pragma once

#include <memory>

#include "api/nova/nova_conductor.h"
#include "base/config.h"
#include "compute/clients/host_inventory_report.h"
#include "compute/clients/provider_config.h"
#include "compute/clients/report_client.h"

namespace kumoi::nova {

class PlacementReport final : public Allocations {
public:
    // `real_guests`: false for the simulated driver, which has no processors of its own. `config`
    // outlives this.
    PlacementReport(const Config& config, std::unique_ptr<clients::ReportClient> report,
                    Release release, bool real_guests,
                    clients::ProviderConfigs provider_configs = {});

    // Makes the resource provider say what the node has. `disabled`: the scheduler must avoid it.
    Result<void> update(const compute::ComputeNode& node, bool disabled);
    Result<void> remove(const compute::RequestContext& context,
                        const std::string& consumer) override;
    Result<void> move(const compute::RequestContext& context, const std::string& source,
                      const std::string& target) override;
    Result<void> remove_from(const compute::RequestContext& context, const std::string& consumer,
                             const std::string& provider_uuid) override;
    Result<std::vector<std::string>> consumers_on(const std::string& provider_uuid) override;

private:
    const Config& config_;
    const std::unique_ptr<clients::ReportClient> report_;
    const bool real_guests_;
    const clients::ProviderConfigs provider_configs_;
    std::set<std::string> warned_of_;  // of update() alone
    const clients::AllocationRatio cpu_ratio_, memory_ratio_, disk_ratio_;
};

}  // namespace kumoi::nova
