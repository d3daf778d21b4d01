#include "compute/conductor/host_registry.h"

#include <mutex>

namespace kumoi::compute {

void HostRegistry::add(const std::string& host, ComputeApi& api) {
    const std::unique_lock lock(mutex_);
    hosts_[host] = &api;
}

void HostRegistry::remove(const std::string& host) {
    const std::unique_lock lock(mutex_);
    hosts_.erase(host);
}

ComputeApi* HostRegistry::find(const std::string& host) const {
    const std::shared_lock lock(mutex_);
    const auto found = hosts_.find(host);
    return found == hosts_.end() ? nullptr : found->second;
}

Result<ComputeApi*> HostRegistry::get(const std::string& host) const {
    ComputeApi* api = find(host);
    if (api == nullptr) {
        return Error::unavailable("Compute service of {} is unavailable at this time.", host)
            .with_hint("Start kumoi-compute on that host (openstack compute service list).")
            .with_fault("ComputeServiceUnavailable");
    }
    return api;
}

}  // namespace kumoi::compute
