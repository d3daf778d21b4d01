// RamFilter: claimed memory leaves room, by Placement's formula
// (total - reserved) * ram_allocation_ratio - claimed.
#pragma once

#include "scheduler/filter.h"

namespace kumoi::scheduler {

class RamFilter final : public Filter {
public:
    std::string_view name() const override { return "RamFilter"; }
    Verdict host_passes(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
