// PlacementReport: why each host was taken or refused for one request, in host order. It becomes
// the text of NoValidHost, so a user reads which host lacked what, and the log line of a placement.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "scheduler/request_spec.h"

namespace kumoi::scheduler {

struct HostVerdict {
    std::string host;
    std::string filter;  // the one that refused; empty: the host passed
    std::string reason;
    double weight = 0;  // of hosts that passed
};

struct PlacementReport {
    std::vector<HostVerdict> hosts;

    // "cn-1: RamFilter (512 MiB usable, 2048 MiB requested); cn-2: ..." At most `host_count_max`
    // hosts are spelled out; the others are counted.
    std::string text(size_t host_count_max = 20) const;
};

// NoValidHost with every host's reason and what could be done about the commonest one.
Error no_valid_host(const PlacementReport& report, const RequestSpec& spec);

}  // namespace kumoi::scheduler
