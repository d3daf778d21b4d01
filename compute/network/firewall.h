// Firewall: holds the FirewallModel of this host and keeps the kernel's tables `bridge kumoi` and
// `inet kumoi` equal to it. Each change is one nft transaction: it happens wholly or not at all,
// and the model changes only when the kernel agreed. Not thread safe: NodeNetwork's mutex guards
// it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "compute/network/firewall_rules.h"

namespace kumoi::compute {

class Firewall {
public:
    // Finds out how this kernel tracks bridged connections; Unsupported when it cannot.
    static Result<StatefulMode> detect_mode();
    Firewall(StatefulMode mode, bool nat) : model_{mode, nat, {}, {}, {}} {}

    const FirewallModel& model() const { return model_; }
    // Replaces everything in one transaction, whatever was there; used at start. Running guests
    // keep their connections: a bridge's zone follows from its network's id.
    Result<void> replace(std::map<std::string, FirewallBridge> bridges,
                         std::map<std::string, FirewallPort> ports,
                         std::map<std::string, std::vector<std::string>> groups);
    Result<void> set_bridge(const std::string& network_id, FirewallBridge bridge);
    Result<void> remove_bridge(const std::string& network_id);
    // `groups`: members of every security group that the port's rules refer to.
    Result<void> set_port(FirewallPort port,
                          const std::map<std::string, std::vector<std::string>>& groups);
    Result<void> remove_port(const std::string& port_id);
    Result<void> set_group(const std::string& group_id, std::vector<std::string> members);
    bool uses_group(const std::string& group_id) const;  // some port's rules refer to it
    static Result<void> remove_tables();

private:
    static Result<void> apply(const std::string& script);
    std::string unused_group_removal(FirewallModel& model) const;
    static uint16_t free_zone(const FirewallModel& model, const std::string& network_id);
    FirewallModel model_;
};

}  // namespace kumoi::compute
