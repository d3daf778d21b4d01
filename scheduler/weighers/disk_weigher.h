// DiskWeigher: prefers hosts with much unclaimed disk. Nova: disk_weight_multiplier.
#pragma once

#include "scheduler/weigher.h"

namespace kumoi::scheduler {

class DiskWeigher final : public Weigher {
public:
    using Weigher::Weigher;
    std::string_view name() const override { return "DiskWeigher"; }
    double weigh(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
