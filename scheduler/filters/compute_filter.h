// ComputeFilter: the host's compute service is up and enabled.
#pragma once

#include "scheduler/filter.h"

namespace kumoi::scheduler {

class ComputeFilter final : public Filter {
public:
    std::string_view name() const override { return "ComputeFilter"; }
    Verdict host_passes(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
