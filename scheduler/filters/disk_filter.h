// DiskFilter: claimed disk space leaves room, by Placement's formula
// (total - reserved) * disk_allocation_ratio - claimed.
#pragma once

#include "scheduler/filter.h"

namespace kumoi::scheduler {

class DiskFilter final : public Filter {
public:
    std::string_view name() const override { return "DiskFilter"; }
    Verdict host_passes(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
