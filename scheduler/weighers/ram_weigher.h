// RAMWeigher: prefers hosts with much unclaimed memory (spread); stacks with a negative
// multiplier. Nova: ram_weight_multiplier.
#pragma once

#include "scheduler/weigher.h"

namespace kumoi::scheduler {

class RAMWeigher final : public Weigher {
public:
    using Weigher::Weigher;
    std::string_view name() const override { return "RAMWeigher"; }
    double weigh(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
