// ServerGroupFilter: the hard affinity and anti-affinity rules of the server's group hold (Nova's
// ServerGroupAffinityFilter and ServerGroupAntiAffinityFilter).
#pragma once

#include "scheduler/filter.h"

namespace kumoi::scheduler {

class ServerGroupFilter final : public Filter {
public:
    std::string_view name() const override { return "ServerGroupFilter"; }
    Verdict host_passes(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
