// AvailabilityZoneFilter: the host is in the zone that was asked for, if one was.
#pragma once

#include "scheduler/filter.h"

namespace kumoi::scheduler {

class AvailabilityZoneFilter final : public Filter {
public:
    std::string_view name() const override { return "AvailabilityZoneFilter"; }
    Verdict host_passes(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
