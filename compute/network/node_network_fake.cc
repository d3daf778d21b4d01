#include "compute/network/node_network_fake.h"

#include "compute/network/device_names.h"

namespace kumoi::compute {

Result<std::string> NodeNetworkFake::plug(const Instance& instance, const VifInfo& vif) {
    const PortSpec port = TRY_CONTEXT(records_.node_port(vif.port_id),
                                      "Plugging port {} of server {}", vif.port_id, instance.uuid);
    TRY(records_.node_network(port.network_id));
    {
        const std::lock_guard lock(mutex_);
        plugged_.insert(vif.port_id);
    }
    TRY(records_.port_plugged(vif.port_id, true));
    return tap_name(vif.port_id);
}

Result<void> NodeNetworkFake::unplug(const Instance& instance, const VifInfo& vif) {
    (void)instance;
    {
        const std::lock_guard lock(mutex_);
        plugged_.erase(vif.port_id);
    }
    const auto outcome = records_.port_plugged(vif.port_id, false);
    return outcome.ok() || outcome.error().code == ErrorCode::NotFound ? Result<void>() : outcome;
}

Result<void> NodeNetworkFake::reconcile(const std::vector<Instance>& instances) {
    const std::lock_guard lock(mutex_);
    plugged_.clear();
    for (const Instance& instance : instances) {
        for (const VifInfo& vif : instance.network_info) {
            plugged_.insert(vif.port_id);
        }
    }
    return {};
}

std::set<std::string> NodeNetworkFake::plugged() const {
    const std::lock_guard lock(mutex_);
    return plugged_;
}

}  // namespace kumoi::compute
