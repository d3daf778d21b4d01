// HostRegistry: the way from a host's name to the verbs of its node. Standalone: the node in this
// very process; members that join over AMQP register their client here. Any thread; a registered
// ComputeApi must stay alive until it is unregistered and the callers that found it are done.
#pragma once

#include <map>
#include <shared_mutex>
#include <string>

#include "base/result.h"
#include "compute/manager/compute_api.h"

namespace kumoi::compute {

class HostRegistry {
public:
    void add(const std::string& host, ComputeApi& api);
    void remove(const std::string& host);
    ComputeApi* find(const std::string& host) const;  // nullptr: not reachable from here
    Result<ComputeApi*> get(
        const std::string& host) const;  // Unavailable: ComputeServiceUnavailable

private:
    mutable std::shared_mutex mutex_;
    std::map<std::string, ComputeApi*> hosts_;
};

}  // namespace kumoi::compute
