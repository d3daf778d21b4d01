// CPUWeigher: prefers hosts with many unclaimed vCPUs. Nova: cpu_weight_multiplier.
#pragma once

#include "scheduler/weigher.h"

namespace kumoi::scheduler {

class CPUWeigher final : public Weigher {
public:
    using Weigher::Weigher;
    std::string_view name() const override { return "CPUWeigher"; }
    double weigh(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
