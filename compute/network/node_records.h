// What a node must know of networks, ports and security groups to carry them: plain values, the
// NetworkRecords interface that answers for them (standalone: NetworkService) and NetworkListener,
// through which the records tell a node that something changed. Implementations are thread safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace kumoi::compute {

struct SubnetSpec {
    std::string id;
    std::string cidr;
    int ip_version = 4;
    std::optional<std::string> gateway;
    // The address this host answers from on the network's bridge: the gateway, unless a port holds
    // that one, else an address reserved for DHCP. Absent: the host keeps out of this subnet.
    std::optional<std::string> host_address;
    bool dhcp = true;
    std::vector<std::string> dns_servers;
    std::vector<std::pair<std::string, std::string>> host_routes;  // destination CIDR, next hop
};

struct DhcpHostSpec {
    std::string mac;
    std::string address;
    std::string host_name;
    auto operator<=>(const DhcpHostSpec&) const = default;
};

struct NetworkSpec {
    std::string id;
    int64_t mtu = 1500;
    std::vector<SubnetSpec> subnets;
    std::vector<DhcpHostSpec> dhcp_hosts;  // every port with an address in a DHCP subnet
    // In a cloud of several nodes: the network's number between them, and their addresses (this
    // one's too).
    int64_t vni = 0;
    std::vector<std::string> peers = {};
};

struct SecurityRule {
    std::string id;
    bool ingress = true;
    int ip_version = 4;
    std::optional<std::string> protocol;  // lower case name or number; absent: any
    std::optional<int64_t> port_min;      // ICMP: type
    std::optional<int64_t> port_max;      // ICMP: code
    std::optional<std::string> remote_prefix;
    std::optional<std::string> remote_group_id;
};

struct AddressPair {
    std::string mac;  // empty: the port's own
    std::string cidr;
};

struct PortSpec {
    std::string id;
    std::string network_id;
    std::string mac;
    std::vector<std::string> addresses;
    std::vector<AddressPair> allowed_address_pairs;
    bool port_security = true;
    bool admin_state_up = true;
    std::vector<std::string> security_group_ids;
    std::vector<SecurityRule> rules;  // of all its groups
};

class NetworkRecords {
public:
    virtual ~NetworkRecords() = default;
    virtual Result<NetworkSpec> node_network(const std::string& network_id) = 0;
    virtual Result<PortSpec> node_port(const std::string& port_id) = 0;
    // Addresses (and CIDRs of allowed address pairs) of the group's member ports.
    virtual Result<std::vector<std::string>> security_group_addresses(const std::string& id) = 0;
    // The TAP is there (true) or gone (false): sets the port's status ACTIVE or DOWN.
    virtual Result<void> port_plugged(const std::string& port_id, bool plugged) = 0;
};

// Called after the change is durable, on the thread that made it, with no lock held.
class NetworkListener {
public:
    virtual ~NetworkListener() = default;
    virtual void network_changed(const std::string& network_id) = 0;
    virtual void port_changed(const std::string& port_id) = 0;
    virtual void security_group_changed(const std::string& group_id) = 0;
};

}  // namespace kumoi::compute
