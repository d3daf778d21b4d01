#include "compute/network/firewall_rules.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "compute/network/device_names.h"
#include "compute/network/ip_address.h"

namespace kumoi::compute {
namespace {

constexpr std::string_view kTable = "bridge kumoi";
constexpr std::string_view kHostTable = "inet kumoi";
constexpr uint32_t kMarkKept = ~(kMarkEstablished | kMarkForHost);
constexpr std::string_view kMetadataAddress = "169.254.169.254";

std::string group_set(const std::string& group_id, int version) {
    return fmt::format("group{}-{}", version, group_id);
}

std::string braces(const std::vector<std::string>& elements) {
    return fmt::format("{{ {} }}", fmt::join(elements, ", "));
}

// A chain, created when missing and filled anew.
class Chain {
public:
    Chain(std::string& out, std::string_view table, std::string name, std::string_view hook = {})
        : out_(out), place_(fmt::format("{} {}", table, name)) {
        out_ += fmt::format("add chain {}{}\nflush chain {}\n", place_,
                            hook.empty() ? "" : fmt::format(" {{ type {}; policy accept; }}", hook),
                            place_);
    }
    void rule(std::string_view text) { out_ += fmt::format("add rule {} {}\n", place_, text); }

private:
    std::string& out_;
    std::string place_;
};

struct Sender {
    std::string mac;
    std::vector<std::string> addresses[2];  // IPv4, IPv6; each an address or CIDR
};

// Which source addresses go with which MAC: the port's own and its allowed address pairs.
std::vector<Sender> senders_of(const PortSpec& port) {
    std::vector<Sender> senders = {{port.mac, {}}};
    const auto add = [&](const std::string& mac, const std::string& text) {
        const auto network = IpNetwork::parse(text);
        if (!network) {
            return;
        }
        auto found = std::find_if(senders.begin(), senders.end(),
                                  [&](const Sender& sender) { return sender.mac == mac; });
        if (found == senders.end()) {
            found = senders.insert(senders.end(), {mac, {}});
        }
        auto& list = found->addresses[network->version() == 4 ? 0 : 1];
        const bool single = network->prefix_length() == network->address().bits();
        const std::string element = single ? network->address().text() : network->text();
        if (std::find(list.begin(), list.end(), element) == list.end()) {
            list.push_back(element);
        }
    };
    for (const std::string& address : port.addresses) {
        add(port.mac, address);
    }
    for (const AddressPair& pair : port.allowed_address_pairs) {
        add(pair.mac.empty() ? port.mac : pair.mac, pair.cidr);
    }
    for (Sender& sender : senders) {
        sender.addresses[1].push_back(link_local_address(sender.mac).text());
    }
    return senders;
}

void render_sender_ipv4(Chain& chain, const Sender& sender, const std::string& from) {
    // RFC 5227 §2.1.1: a probe has the sender address 0.0.0.0; the MAC inside must be true as well.
    const std::string arp = from + "arp saddr ether " + sender.mac + " arp saddr ip ";
    chain.rule(arp + "0.0.0.0 accept");
    // RFC 903: how a guest that has just come says where it is now.
    chain.rule("ether saddr " + sender.mac + " ether type 0x8035 accept");
    // RFC 2131 §4.1: a client without address asks from 0.0.0.0.
    chain.rule(from + "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept");
    if (!sender.addresses[0].empty()) {
        const std::string set = braces(sender.addresses[0]);
        chain.rule(arp + set + " accept");
        chain.rule(from + "ip saddr " + set + " accept");
    }
}

// Matches the target field of a neighbour advertisement (RFC 4861 §4.4): 16 bytes at offset 8.
std::string target_match(const std::string& text) {
    const IpNetwork network = *IpNetwork::parse(text);
    std::string hex = "0x";
    // Raw payload matches compare whole bytes; a prefix of other length is matched one byte short.
    const int byte_count = std::max(1, network.prefix_length() / 8);
    for (int i = 0; i < byte_count; ++i) {
        hex += fmt::format("{:02x}", network.address().bytes()[static_cast<size_t>(i)]);
    }
    return fmt::format("@th,64,{} {}", 8 * byte_count, hex);
}

void render_sender_ipv6(Chain& chain, const Sender& sender, const std::string& from) {
    const std::string set = braces(sender.addresses[1]);
    for (const std::string& address : sender.addresses[1]) {
        chain.rule(from + "ip6 saddr " + set + " icmpv6 type 136 " + target_match(address) +
                   " accept");
    }
    chain.rule(from + "icmpv6 type 136 drop");
    chain.rule(from + "ip6 saddr " + set + " accept");
    // RFC 4862 §5.4.2, RFC 3810 §5.2.13: address detection and reports from the unspecified
    // address.
    chain.rule(from + "ip6 saddr :: icmpv6 type { 131, 132, 135, 143 } accept");
}

// May this frame come from that port at all? `accept` goes on to the next hook.
void render_spoof_chain(std::string& out, const PortSpec& port) {
    Chain chain(out, kTable, "spoof-" + port.id);
    if (!port.admin_state_up) {
        chain.rule("drop");
        return;
    }
    if (!port.port_security) {
        chain.rule("accept");
        return;
    }
    // Guests are no DHCP servers, and no routers (RFC 4861 §4: 134 advertisement, 137 redirect).
    chain.rule("ip protocol udp udp sport 67 counter drop");
    chain.rule("ip6 nexthdr udp udp sport 547 counter drop");
    chain.rule("icmpv6 type { 134, 137 } counter drop");
    for (const Sender& sender : senders_of(port)) {
        const std::string from = "ether saddr " + sender.mac + " ";
        render_sender_ipv4(chain, sender, from);
        render_sender_ipv6(chain, sender, from);
    }
    chain.rule("counter drop");
}

// What every guest may receive (ingress) and send whatever its groups say.
std::vector<std::string> base_matches(bool ingress) {
    if (ingress) {
        return {"ether type arp", "ip protocol udp udp sport 67 udp dport 68",
                fmt::format("ip saddr {} tcp sport 80", kMetadataAddress),
                "icmpv6 type { 130, 131, 132, 134, 135, 136 }",
                "ip6 saddr fe80::/10 udp sport 547 udp dport 546"};
    }
    return {"ether type { arp, 0x8035 }", "ip protocol udp udp sport 68 udp dport 67",
            fmt::format("ip daddr {} tcp dport 80", kMetadataAddress),
            "icmpv6 type { 131, 132, 133, 135, 136, 143 }",
            "ip6 saddr fe80::/10 udp sport 546 udp dport 547"};
}

// What stays on each node although the network goes on at others: its gateway and metadata address,
// which every node has under the same MAC, and its DHCP server. `kx` devices lead to the others.
void render_tunnel_prerouting(Chain& chain, const FirewallModel& model) {
    const std::string tunnel = fmt::format("iifname \"{}*\" ", kTunnelPrefix);
    for (const auto& [id, bridge] : model.bridges) {
        const std::string from = fmt::format("iifname \"{}\" ", tunnel_name(id));
        std::vector<std::string> hosts = {std::string(kMetadataAddress)};
        for (const std::string& address : bridge.host_addresses) {
            if (address.find(':') == std::string::npos) {
                hosts.push_back(address);
            }
        }
        chain.rule(from + "ether saddr " + bridge.mac + " drop");
        chain.rule(from + "arp saddr ip " + braces(hosts) + " drop");
        chain.rule(from + "arp daddr ip " + braces(hosts) + " drop");
    }
    chain.rule(tunnel + "ip protocol udp udp dport { 67, 68 } drop");
    chain.rule(tunnel + "ip6 nexthdr udp udp dport { 546, 547 } drop");
    chain.rule(tunnel + "icmpv6 type { 134, 137 } drop");
}

// Egress passes by `return`: the receiver's ingress rules come next in the same hook.
void render_direction(std::string& out, const PortSpec& port, bool ingress) {
    Chain chain(out, kTable, (ingress ? "to-" : "from-") + port.id);
    const std::string pass = ingress ? "accept" : "return";
    if (!port.admin_state_up) {
        chain.rule("drop");
        return;
    }
    if (!port.port_security) {
        chain.rule(pass);
        return;
    }
    chain.rule(fmt::format("meta mark & {0:#010x} == {0:#010x} {1}", kMarkEstablished, pass));
    for (const std::string& match : base_matches(ingress)) {
        chain.rule(match + " " + pass);
    }
    for (const SecurityRule& rule : port.rules) {
        const std::string match =
            rule.ingress == ingress ? render_security_rule(rule) : std::string();
        if (!match.empty()) {
            chain.rule(match + " " + pass);
        }
    }
    chain.rule("counter drop");
}

std::string protocol_number(const std::string& name) {
    // Neutron's names (neutron_lib.constants.IP_PROTOCOL_MAP) by their IANA numbers.
    static const std::map<std::string, int> numbers = {
        {"ah", 51},         {"dccp", 33},      {"egp", 8},         {"esp", 50},
        {"gre", 47},        {"icmp", 1},       {"igmp", 2},        {"ipip", 4},
        {"ipv6-encap", 41}, {"ipv6-frag", 44}, {"ipv6-icmp", 58},  {"icmpv6", 58},
        {"ipv6-nonxt", 59}, {"ipv6-opts", 60}, {"ipv6-route", 43}, {"ospf", 89},
        {"pgm", 113},       {"rsvp", 46},      {"sctp", 132},      {"tcp", 6},
        {"udp", 17},        {"udplite", 136},  {"vrrp", 112}};
    const auto found = numbers.find(name);
    return found == numbers.end() ? name : std::to_string(found->second);
}

std::string port_match(const SecurityRule& rule, const std::string& number) {
    std::string text = " meta l4proto " + number;
    const bool icmp = number == "1" || number == "58";
    if (icmp && rule.port_min) {
        // On ICMPv4 in an IPv6 rule Neutron means ICMPv6: the rule's ethertype decides.
        const std::string_view header = rule.ip_version == 4 ? "icmp" : "icmpv6";
        text += fmt::format(" {} type {}", header, *rule.port_min);
        if (rule.port_max) {
            text += fmt::format(" {} code {}", header, *rule.port_max);
        }
    } else if (!icmp && rule.port_min && rule.port_max) {
        text += *rule.port_min == *rule.port_max
                    ? fmt::format(" th dport {}", *rule.port_min)
                    : fmt::format(" th dport {}-{}", *rule.port_min, *rule.port_max);
    }
    return text;
}

void render_group_set(std::string& out, const std::string& group_id, int version,
                      const std::vector<std::string>& members) {
    const std::string name = group_set(group_id, version);
    out +=
        fmt::format("add set {} {} {{ type {}; flags interval; auto-merge; }}\nflush set {} {}\n",
                    kTable, name, version == 4 ? "ipv4_addr" : "ipv6_addr", kTable, name);
    std::set<std::string> elements;
    for (const std::string& member : members) {
        const auto network = IpNetwork::parse(member);
        if (network && network->version() == version) {
            elements.insert(network->prefix_length() == network->address().bits()
                                ? network->address().text()
                                : network->text());
        }
    }
    if (!elements.empty()) {
        out += fmt::format("add element {} {} {{ {} }}\n", kTable, name, fmt::join(elements, ", "));
    }
}

std::string map_elements(const FirewallPort& port, std::string_view verb) {
    std::string out;
    for (const std::string_view name : {"spoof", "from", "to"}) {
        out += fmt::format("{} element {} {}_map {{ \"{}\" : goto {}-{} }}\n", verb, kTable, name,
                           port.device, name, port.port.id);
    }
    return out;
}

// Connection tracking zone and state at prerouting, in the table whose family has them.
void render_tracking(std::string& out, const FirewallModel& model) {
    const bool native = model.mode == StatefulMode::BridgeConntrack;
    const std::string_view table = native ? kTable : kHostTable;
    const std::string_view bridge_key = native ? "meta ibrname" : "iifname";
    std::string zones;
    for (const auto& [id, bridge] : model.bridges) {
        zones += fmt::format("{}\"{}\" : {}", zones.empty() ? "" : ", ", bridge.name, bridge.zone);
    }
    Chain zone(out, table, "track-zone", "filter hook prerouting priority -300");
    // Metadata works without state, so that equal addresses on two networks cannot collide in it.
    zone.rule(
        fmt::format("{} \"{}*\" ip daddr {} notrack", bridge_key, kBridgePrefix, kMetadataAddress));
    if (!zones.empty()) {
        // Traffic with the host keeps the default zone in its reply direction: the host's own
        // stack, which knows no bridge, looks there.
        zone.rule(fmt::format(
            "meta mark & {0:#010x} == {0:#010x} ct original zone set {1} map {{ {2} }} return",
            kMarkForHost, bridge_key, zones));
        zone.rule(fmt::format("ct zone set {} map {{ {} }}", bridge_key, zones));
    }
    Chain state(out, table, "track-state", "filter hook prerouting priority -150");
    state.rule(
        fmt::format("{} \"{}*\" ct state established,related meta mark set meta mark | {:#010x}",
                    bridge_key, kBridgePrefix, kMarkEstablished));
}

void render_bridge_hooks(std::string& out, const FirewallModel& model) {
    for (const std::string_view name : {"spoof", "from", "to"}) {
        out += fmt::format("add map {} {}_map {{ type ifname : verdict; }}\n", kTable, name);
    }
    const std::string clear = fmt::format("meta mark set meta mark & {:#010x}", kMarkKept);
    const std::string tap = fmt::format("\"{}*\"", kTapPrefix);
    Chain from(out, kTable, "from-port");
    from.rule("iifname vmap @from_map");
    from.rule("counter drop");
    Chain to(out, kTable, "to-port");
    to.rule("oifname vmap @to_map");
    to.rule("counter drop");
    Chain prerouting(out, kTable, "prerouting", "filter hook prerouting priority -310");
    prerouting.rule(clear);
    std::vector<std::string> macs;
    for (const auto& [id, bridge] : model.bridges) {
        macs.push_back(bridge.mac);
    }
    if (!macs.empty()) {
        prerouting.rule(fmt::format("ether daddr {} meta mark set meta mark | {:#010x}",
                                    braces(macs), kMarkForHost));
    }
    render_tunnel_prerouting(prerouting, model);
    prerouting.rule("iifname vmap @spoof_map");
    // A device of ours without map entry: not filtered yet, so closed.
    prerouting.rule("iifname " + tap + " counter drop");
    const std::string tunnel = fmt::format("\"{}*\"", kTunnelPrefix);
    Chain input(out, kTable, "input", "filter hook input priority -200");
    input.rule("iifname " + tunnel + " drop");
    input.rule("iifname " + tap + " jump from-port");
    input.rule(clear);
    Chain forward(out, kTable, "forward", "filter hook forward priority -200");
    forward.rule("iifname " + tap + " jump from-port");
    forward.rule("oifname " + tap + " jump to-port");
    Chain output(out, kTable, "output", "filter hook output priority -200");
    output.rule("oifname " + tunnel + " drop");
    output.rule("oifname " + tap + " jump to-port");
}

// What guests may reach of this host: the DHCP server and the host's addresses on their own bridge.
void render_host_input(std::string& out, const FirewallModel& model) {
    Chain input(out, kHostTable, "input", "filter hook input priority -10");
    input.rule(fmt::format("iifname != \"{}*\" accept", kBridgePrefix));
    input.rule("ct state established,related accept");
    input.rule("ip protocol udp udp dport 67 accept");
    input.rule("ip6 nexthdr udp udp dport 547 accept");
    input.rule("icmpv6 type { 131, 132, 133, 135, 136, 143 } accept");
    for (const auto& [id, bridge] : model.bridges) {
        std::vector<std::string> addresses[2] = {{std::string(kMetadataAddress)}, {}};
        for (const std::string& address : bridge.host_addresses) {
            addresses[address.find(':') == std::string::npos ? 0 : 1].push_back(address);
        }
        for (const int version : {0, 1}) {
            if (!addresses[version].empty()) {
                input.rule(fmt::format("iifname \"{}\" {} daddr {} accept", bridge.name,
                                       version == 0 ? "ip" : "ip6", braces(addresses[version])));
            }
        }
    }
    input.rule("counter drop");
}

void render_host_forward(std::string& out, const FirewallModel& model) {
    const std::string any = fmt::format("\"{}*\"", kBridgePrefix);
    Chain forward(out, kHostTable, "forward", "filter hook forward priority -10");
    for (const auto& [id, bridge] : model.bridges) {
        // Bridged packets that br_netfilter shows here were judged in the bridge table.
        forward.rule(fmt::format("iifname \"{0}\" oifname \"{0}\" accept", bridge.name));
    }
    forward.rule("iifname " + any + " oifname " + any + " counter drop");
    if (model.nat) {
        forward.rule("iifname " + any + " accept");
        forward.rule("oifname " + any + " ct state established,related accept");
    }
    forward.rule("iifname " + any + " counter drop");
    forward.rule("oifname " + any + " counter drop");
}

void render_nat(std::string& out, const FirewallModel& model) {
    std::set<std::string> sources;
    for (const auto& [id, bridge] : model.bridges) {
        for (const std::string& cidr : bridge.cidrs) {
            if (cidr.find(':') == std::string::npos) {
                sources.insert(cidr);
            }
        }
    }
    Chain nat(out, kHostTable, "source-nat", "nat hook postrouting priority 100");
    for (const std::string& source : model.nat ? sources : std::set<std::string>()) {
        nat.rule(fmt::format("ip saddr {} oifname != \"{}*\" oifname != \"lo\" masquerade", source,
                             kBridgePrefix));
    }
}

}  // namespace

std::string render_security_rule(const SecurityRule& rule) {
    const std::string_view family = rule.ip_version == 4 ? "ip" : "ip6";
    const std::string_view side = rule.ingress ? "saddr" : "daddr";
    std::string text = fmt::format("ether type {}", family);
    if (rule.remote_group_id) {
        text += fmt::format(" {} {} @{}", family, side,
                            group_set(*rule.remote_group_id, rule.ip_version));
    } else if (rule.remote_prefix) {
        const auto network = IpNetwork::parse(*rule.remote_prefix);
        if (!network || network->version() != rule.ip_version) {
            return "";
        }
        if (network->prefix_length() != 0) {
            text += fmt::format(" {} {} {}", family, side, network->text());
        }
    }
    if (rule.protocol && *rule.protocol != "any" && *rule.protocol != "0") {
        std::string number = protocol_number(*rule.protocol);
        if (number == "1" && rule.ip_version == 6) {
            number = "58";  // "icmp" in an IPv6 rule means ICMPv6, as in Neutron
        }
        text += port_match(rule, number);
    }
    return text;
}

std::string render_group(const std::string& group_id, const std::vector<std::string>& members) {
    std::string out;
    render_group_set(out, group_id, 4, members);
    render_group_set(out, group_id, 6, members);
    return out;
}

std::string render_group_removal(const std::string& group_id) {
    std::string out = render_group(group_id, {});
    for (const int version : {4, 6}) {
        out += fmt::format("delete set {} {}\n", kTable, group_set(group_id, version));
    }
    return out;
}

std::string render_port(const FirewallPort& port) {
    std::string out;
    render_spoof_chain(out, port.port);
    render_direction(out, port.port, false);
    render_direction(out, port.port, true);
    return out + map_elements(port, "add");
}

std::string render_port_removal(const FirewallPort& port) {
    std::string out;
    for (const std::string_view name : {"spoof", "from", "to"}) {
        const Chain chain(out, kTable, fmt::format("{}-{}", name, port.port.id));
    }
    // Adding first makes deleting succeed whether or not it was there.
    out += map_elements(port, "add") + map_elements(port, "delete");
    for (const std::string_view name : {"spoof", "from", "to"}) {
        out += fmt::format("delete chain {} {}-{}\n", kTable, name, port.port.id);
    }
    return out;
}

std::string render_host(const FirewallModel& model) {
    std::string out = fmt::format("add table {}\nadd table {}\n", kTable, kHostTable);
    render_bridge_hooks(out, model);
    render_tracking(out, model);
    render_host_input(out, model);
    render_host_forward(out, model);
    render_nat(out, model);
    Chain output(out, kHostTable, "output", "filter hook output priority -300");
    output.rule(fmt::format("ip saddr {} tcp sport 80 notrack", kMetadataAddress));
    // On its way from the host to a guest the packet gets its state bit afresh.
    Chain mark(out, kHostTable, "mark-state", "filter hook postrouting priority -150");
    const std::string bridges = fmt::format("oifname \"{}*\" ", kBridgePrefix);
    mark.rule(bridges + fmt::format("meta mark set meta mark & {:#010x}", kMarkKept));
    mark.rule(bridges +
              fmt::format("ct state established,related meta mark set meta mark | {:#010x}",
                          kMarkEstablished));
    return out;
}

std::string render_removal() {
    return fmt::format("add table {0}\ndelete table {0}\nadd table {1}\ndelete table {1}\n", kTable,
                       kHostTable);
}

std::string render_ruleset(const FirewallModel& model) {
    std::string out = render_removal() + render_host(model);
    for (const auto& [id, members] : model.group_members) {
        out += render_group(id, members);
    }
    for (const auto& [id, port] : model.ports) {
        out += render_port(port);
    }
    return out;
}

}  // namespace kumoi::compute
