// VcpuFilter: claimed vCPUs leave room, by Placement's formula
// total * cpu_allocation_ratio - claimed; one server may not have more vCPUs than the host has
// CPUs.
#pragma once

#include "scheduler/filter.h"

namespace kumoi::scheduler {

class VcpuFilter final : public Filter {
public:
    std::string_view name() const override { return "VcpuFilter"; }
    Verdict host_passes(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
