// Turns ports and security rules into nftables text; pure, so tests read the rules like prose.
//
// Layout (docs/reference/network.md has the picture):
//   table bridge kumoi   anti-spoofing at prerouting, security groups at input/forward/output
//   table inet kumoi     connection tracking state, what guests may reach of this host, NAT
// One chain triple per port: spoof-<id> (may this frame come from that port at all), from-<id> (its
// egress rules), to-<id> (its ingress rules), found through maps keyed by device name. A device
// with our prefix and no entry in the maps is dropped, so a port is closed before it is filtered.
//
// State. nft's `ct state` in the bridge family needs the kernel's nf_conntrack_bridge. Where it is
// missing, br_netfilter hands bridged packets of our bridges (and only ours: a per-bridge switch)
// to the inet hooks, and our inet table notes "established" in a mark bit. Both ways the bridge
// chains look at that bit only.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compute/network/node_records.h"

namespace kumoi::compute {

enum class StatefulMode {
    BridgeConntrack,  // nf_conntrack_bridge
    BridgeNetfilter,  // br_netfilter with mark bits
};

// Mark bits (of 32): ours only, other users' bits are kept.
constexpr uint32_t kMarkEstablished = 0x01000000;
constexpr uint32_t kMarkForHost = 0x02000000;

struct FirewallBridge {
    std::string name;
    std::string mac;
    std::vector<std::string> host_addresses;  // what guests of this bridge may reach of the host
    std::vector<std::string> cidrs;           // its subnets
    uint16_t zone = 0;                        // conntrack zone: overlapping subnets stay apart
    bool operator==(const FirewallBridge&) const = default;
};

struct FirewallPort {
    PortSpec port;
    std::string device;
};

struct FirewallModel {
    StatefulMode mode = StatefulMode::BridgeNetfilter;
    bool nat = false;
    std::map<std::string, FirewallBridge> bridges;                  // by network id
    std::map<std::string, FirewallPort> ports;                      // by port id
    std::map<std::string, std::vector<std::string>> group_members;  // by security group id
};

// Replaces both tables in one transaction, whatever was there.
std::string render_ruleset(const FirewallModel& model);
std::string render_removal();
// Increments: each is one transaction and may be repeated.
std::string render_port(const FirewallPort& port);
std::string render_port_removal(const FirewallPort& port);
std::string render_group(const std::string& group_id, const std::vector<std::string>& members);
std::string render_group_removal(const std::string& group_id);
std::string render_host(
    const FirewallModel& model);  // all that depends on bridges: hooks, zones, NAT

// The matches of one rule, without verdict; empty when it can never match.
std::string render_security_rule(const SecurityRule& rule);

}  // namespace kumoi::compute
