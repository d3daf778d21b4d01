#include "compute/network/node_network.h"

#include <algorithm>

#include "base/file.h"
#include "base/log.h"
#include "compute/instance_properties.h"
#include "compute/network/device_names.h"

namespace kumoi::compute {
namespace {

const InterfaceAddress kMetadataAddress = {IpAddress::from_ipv4(0xa9fea9fe), 32};

std::vector<InterfaceAddress> bridge_addresses(const NetworkSpec& network) {
    std::vector<InterfaceAddress> addresses;
    bool any_ipv4 = false;
    for (const SubnetSpec& subnet : network.subnets) {
        const auto cidr = IpNetwork::parse(subnet.cidr);
        const auto address = IpAddress::parse(subnet.host_address.value_or(""));
        if (cidr && address && cidr->version() == address->version()) {
            addresses.push_back({*address, cidr->prefix_length()});
            any_ipv4 = any_ipv4 || address->version() == 4;
        }
    }
    if (any_ipv4) {
        addresses.push_back(kMetadataAddress);
    }
    return addresses;
}

FirewallBridge firewall_bridge(const NetworkSpec& network) {
    FirewallBridge bridge;
    bridge.name = bridge_name(network.id);
    bridge.mac = bridge_mac(network.id);
    for (const SubnetSpec& subnet : network.subnets) {
        bridge.cidrs.push_back(subnet.cidr);
        if (subnet.host_address) {
            bridge.host_addresses.push_back(*subnet.host_address);
        }
    }
    return bridge;
}

Result<void> set_addresses(const LinkInfo& link, const std::vector<InterfaceAddress>& wanted) {
    const auto present = TRY(list_addresses(link.index));
    for (const InterfaceAddress& address : present) {
        if (std::find(wanted.begin(), wanted.end(), address) == wanted.end()) {
            TRY(remove_address(link.index, address));
        }
    }
    for (const InterfaceAddress& address : wanted) {
        if (std::find(present.begin(), present.end(), address) == present.end()) {
            TRY(add_address(link.index, address));
        }
    }
    return {};
}

// Keeps the host's own stack off the guests' network except for the addresses we put there.
Result<void> set_bridge_sysctls(const std::string& bridge, bool ipv6) {
    // Overlapping subnets: the reverse route of a guest may lead to another bridge.
    TRY(write_net_sysctl("ipv4/conf/" + bridge + "/rp_filter", "0"));
    // Answer ARP for addresses of this bridge only, and never send another one's as ours.
    TRY(write_net_sysctl("ipv4/conf/" + bridge + "/arp_ignore", "1"));
    TRY(write_net_sysctl("ipv4/conf/" + bridge + "/arp_announce", "2"));
    TRY(write_net_sysctl("ipv4/conf/" + bridge + "/send_redirects", "0"));
    const std::string ipv6_folder = "ipv6/conf/" + bridge;
    if (path_exists("/proc/sys/net/" + ipv6_folder)) {
        TRY(write_net_sysctl(ipv6_folder + "/accept_ra", "0"));
        TRY(write_net_sysctl(ipv6_folder + "/disable_ipv6", ipv6 ? "0" : "1"));
    }
    return {};
}

bool is_ours(const LinkInfo& link, std::string_view prefix) {
    return link.name.starts_with(prefix) && link.alias.starts_with(kAliasPrefix);
}

void warn(std::string_view what, const Result<void>& outcome, const std::string& id) {
    if (!outcome.ok()) {
        log_warn("network", what, {{"id", id}, {"error", outcome.error().text()}});
    }
}

}  // namespace

// What this host should carry, as the records say.
struct NodeNetwork::Plan {
    std::map<std::string, NetworkSpec> networks;
    std::map<std::string, FirewallPort> ports;
    Groups groups;
    std::set<std::string> multi_queue_ports;
};

Result<std::unique_ptr<NodeNetwork>> NodeNetwork::create(NodeNetworkOptions options,
                                                         NetworkRecords& records) {
    const StatefulMode mode = TRY(Firewall::detect_mode());
    TRY(make_directories(options.folder));
    std::unique_ptr<NodeNetwork> node(new NodeNetwork(std::move(options), records, mode));
    TRY(node->prepare_host());
    log_info(
        "network", "packet filter ready",
        {{"state", mode == StatefulMode::BridgeConntrack ? "bridge conntrack" : "br_netfilter"}});
    return node;
}

Result<void> NodeNetwork::prepare_host() {
    if (options_.nat) {
        TRY(write_net_sysctl("ipv4/ip_forward", "1"));
    }
    return {};
}

Result<std::string> NodeNetwork::plug(const Instance& instance, const VifInfo& vif) {
    {
        const std::lock_guard lock(mutex_);
        if (auto outcome = plug_locked(vif.port_id, wants_multi_queue(instance)); !outcome.ok()) {
            warn("undoing a failed plug", unplug_locked(vif.port_id, vif.network_id), vif.port_id);
            return std::move(outcome).error().with_context(
                fmt::format("Plugging port {} of server {}", vif.port_id, instance.uuid));
        }
    }
    TRY(records_.port_plugged(vif.port_id, true));
    return tap_name(vif.port_id);
}

Result<void> NodeNetwork::unplug(const Instance& instance, const VifInfo& vif) {
    {
        const std::lock_guard lock(mutex_);
        TRY_CONTEXT(unplug_locked(vif.port_id, vif.network_id), "Unplugging port {} of server {}",
                    vif.port_id, instance.uuid);
    }
    const auto outcome = records_.port_plugged(vif.port_id, false);
    return outcome.ok() || outcome.error().code == ErrorCode::NotFound ? Result<void>() : outcome;
}

Result<void> NodeNetwork::plug_locked(const std::string& port_id, bool multi_queue) {
    const PortSpec port = TRY(records_.node_port(port_id));
    const NetworkSpec network = TRY(records_.node_network(port.network_id));
    const std::string device = tap_name(port_id);
    for (const auto& [other_id, other] : firewall_.model().ports) {
        if (other.device == device && other_id != port_id) {
            return Error::conflict("Ports {} and {} would share the device name {}", port_id,
                                   other_id, device)
                .with_hint("Delete the port and create it again: its new id gives another name");
        }
    }
    TRY(ensure_network(network));
    TRY(firewall_.set_port({port, device}, TRY(groups_of(port))));
    return attach_device(port, network, multi_queue);
}

Result<void> NodeNetwork::attach_device(const PortSpec& port, const NetworkSpec& network,
                                        bool multi_queue) {
    const std::string device = tap_name(port.id);
    if (!TRY(find_link(device))) {
        TRY(create_tap(device, options_.tap_owner_uid, multi_queue));
    }
    const auto bridge = TRY(find_link(bridge_name(network.id)));
    if (!bridge) {
        return Error::unavailable("Bridge {} vanished", bridge_name(network.id));
    }
    const std::string ipv6_folder = "ipv6/conf/" + device;
    if (path_exists("/proc/sys/net/" + ipv6_folder)) {
        TRY(write_net_sysctl(ipv6_folder + "/disable_ipv6", "1"));
    }
    return change_link(device, {.master_index = bridge->index,
                                .mtu = network.mtu,
                                .up = port.admin_state_up,
                                .alias = device_alias(port.id)});
}

Result<void> NodeNetwork::unplug_locked(const std::string& port_id, const std::string& network_id) {
    // The device goes first: without its chains it would be dropped, never opened.
    TRY(delete_link(tap_name(port_id)));
    TRY(firewall_.remove_port(port_id));
    return remove_if_unused(network_id);
}

Result<void> NodeNetwork::remove_if_unused(const std::string& network_id) {
    for (const auto& [id, port] : firewall_.model().ports) {
        if (port.port.network_id == network_id) {
            return {};
        }
    }
    return remove_network(network_id);
}

Result<void> NodeNetwork::remove_network(const std::string& network_id) {
    if (bridge_listener_ != nullptr) {
        bridge_listener_->bridge_down(network_id);
    }
    TRY(DhcpServer(dhcp_folder(network_id), bridge_name(network_id)).stop());
    TRY(delete_link(tunnel_name(network_id)));
    tunnels_.erase(network_id);
    TRY(delete_link(bridge_name(network_id)));
    return firewall_.remove_bridge(network_id);
}

Result<void> NodeNetwork::ensure_network(const NetworkSpec& network) {
    TRY(firewall_.set_bridge(network.id, firewall_bridge(network)));
    TRY(ensure_bridge(network));
    TRY(ensure_tunnel(network));
    TRY(DhcpServer(dhcp_folder(network.id), bridge_name(network.id)).update(network));
    if (bridge_listener_ != nullptr) {
        bridge_listener_->bridge_up(network.id, bridge_name(network.id));
    }
    return {};
}

Result<void> NodeNetwork::ensure_bridge(const NetworkSpec& network) {
    const std::string name = bridge_name(network.id);
    const bool netfilter = firewall_.model().mode == StatefulMode::BridgeNetfilter;
    auto link = TRY(find_link(name));
    if (link && link->alias != device_alias(network.id)) {
        return Error::conflict("Device {} exists and is not ours for network {}", name, network.id)
            .with_hint("Remove it, or create the network anew: its id gives another name");
    }
    if (!link) {
        TRY(create_bridge(
            name, {bridge_mac(network.id), device_alias(network.id), network.mtu, netfilter}));
        link = TRY(find_link(name));
    }
    if (!link) {
        return Error::internal("Bridge {} is not there after its creation", name);
    }
    const auto addresses = bridge_addresses(network);
    const bool ipv6 = std::any_of(addresses.begin(), addresses.end(),
                                  [](const auto& item) { return item.address.version() == 6; });
    TRY(set_bridge_sysctls(name, ipv6));
    TRY(change_link(name, {.mtu = network.mtu, .up = true, .bridge_netfilter = netfilter}));
    return set_addresses(*link, addresses);
}

// The network goes on at the other nodes. Of a tunnel from before we started nobody knows the
// peers: it is made anew.
Result<void> NodeNetwork::ensure_tunnel(const NetworkSpec& network) {
    const std::string name = tunnel_name(network.id);
    const auto local = IpAddress::parse(options_.address);
    std::set<std::string> peers(network.peers.begin(), network.peers.end());
    peers.erase(options_.address);
    if (network.vni == 0 || !local || (peers.empty() && !tunnels_.contains(network.id))) {
        return {};
    }
    if (!tunnels_.contains(network.id)) {
        TRY(delete_link(name));
        TRY(create_vxlan(name, network.vni, *local, device_alias(network.id)));
        tunnels_[network.id] = {};
    }
    const auto bridge = TRY(find_link(bridge_name(network.id)));
    TRY(change_link(name, {.master_index = bridge ? std::optional(bridge->index) : std::nullopt,
                           .mtu = network.mtu,
                           .up = true,
                           .alias = {}}));
    std::set<std::string>& known = tunnels_[network.id];
    for (const std::string& peer : peers) {
        const auto address = IpAddress::parse(peer);
        if (!known.contains(peer) && address && address->version() == local->version()) {
            TRY(add_vxlan_peer(name, *address));
            known.insert(peer);
        }
    }
    const std::set<std::string> before = known;
    for (const std::string& peer : before) {
        if (!peers.contains(peer)) {
            TRY(remove_vxlan_peer(name, *IpAddress::parse(peer)));
            known.erase(peer);
        }
    }
    return {};
}

Result<NodeNetwork::Groups> NodeNetwork::groups_of(const PortSpec& port) {
    Groups groups;
    for (const SecurityRule& rule : port.rules) {
        if (rule.remote_group_id && !groups.contains(*rule.remote_group_id)) {
            groups[*rule.remote_group_id] =
                TRY(records_.security_group_addresses(*rule.remote_group_id));
        }
    }
    return groups;
}

Result<NodeNetwork::Plan> NodeNetwork::make_plan(const std::vector<Instance>& instances) {
    Plan plan;
    for (const Instance& instance : instances) {
        for (const VifInfo& vif : instance.network_info) {
            auto port = records_.node_port(vif.port_id);
            if (!port.ok() && port.error().code == ErrorCode::NotFound) {
                log_warn("network", "port of a server is gone from the records",
                         {{"server", instance.uuid}, {"port", vif.port_id}});
                continue;
            }
            const PortSpec spec = TRY(std::move(port));
            if (!plan.networks.contains(spec.network_id)) {
                plan.networks[spec.network_id] = TRY(records_.node_network(spec.network_id));
            }
            plan.groups.merge(TRY(groups_of(spec)));
            plan.ports[spec.id] = {spec, tap_name(spec.id)};
            if (wants_multi_queue(instance)) {
                plan.multi_queue_ports.insert(spec.id);
            }
        }
    }
    return plan;
}

Result<void> NodeNetwork::reconcile(const std::vector<Instance>& instances) {
    const std::lock_guard lock(mutex_);
    const Plan plan = TRY(make_plan(instances));
    std::map<std::string, FirewallBridge> bridges;
    for (const auto& [id, network] : plan.networks) {
        bridges[id] = firewall_bridge(network);
    }
    TRY(firewall_.replace(std::move(bridges), plan.ports, plan.groups));
    TRY(remove_leftovers(plan));
    for (const auto& [id, network] : plan.networks) {
        TRY(ensure_network(network));
    }
    for (const auto& [id, port] : plan.ports) {
        TRY(attach_device(port.port, plan.networks.at(port.port.network_id),
                          plan.multi_queue_ports.contains(id)));
    }
    log_info("network", "reconciled",
             {{"networks", plan.networks.size()}, {"ports", plan.ports.size()}});
    return {};
}

Result<void> NodeNetwork::remove_leftovers(const Plan& plan) {
    std::set<std::string> wanted;
    for (const auto& [id, port] : plan.ports) {
        wanted.insert(port.device);
    }
    for (const auto& [id, network] : plan.networks) {
        wanted.insert(bridge_name(id));
        wanted.insert(tunnel_name(id));
    }
    const auto links = TRY(list_links());
    for (const std::string_view prefix : {kTapPrefix, kTunnelPrefix, kBridgePrefix}) {
        for (const LinkInfo& link : links) {
            if (is_ours(link, prefix) && !wanted.contains(link.name)) {
                log_info("network", "removing a left-over device", {{"device", link.name}});
                TRY(delete_link(link.name));
            }
        }
    }
    for (const std::string& network_id : TRY(list_directory(options_.folder))) {
        if (!plan.networks.contains(network_id)) {
            TRY(DhcpServer(dhcp_folder(network_id), bridge_name(network_id)).stop());
        }
    }
    return {};
}

Result<void> NodeNetwork::refresh_port(const std::string& port_id) {
    const PortSpec port = TRY(records_.node_port(port_id));
    TRY(firewall_.set_port({port, tap_name(port_id)}, TRY(groups_of(port))));
    return change_link(tap_name(port_id), {.up = port.admin_state_up, .alias = {}});
}

void NodeNetwork::network_changed(const std::string& network_id) {
    const std::lock_guard lock(mutex_);
    if (!firewall_.model().bridges.contains(network_id)) {
        return;
    }
    const auto network = records_.node_network(network_id);
    if (network.ok()) {
        warn("updating a network", ensure_network(*network), network_id);
    }
}

void NodeNetwork::port_changed(const std::string& port_id) {
    const std::lock_guard lock(mutex_);
    if (firewall_.model().ports.contains(port_id)) {
        warn("updating a port's filter", refresh_port(port_id), port_id);
    }
}

void NodeNetwork::security_group_changed(const std::string& group_id) {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> members_of;
    for (const auto& [id, port] : firewall_.model().ports) {
        const auto& groups = port.port.security_group_ids;
        if (std::find(groups.begin(), groups.end(), group_id) != groups.end()) {
            members_of.push_back(id);
        }
    }
    for (const std::string& port_id : members_of) {
        warn("updating a port's filter", refresh_port(port_id), port_id);
    }
    if (firewall_.uses_group(group_id)) {
        auto members = records_.security_group_addresses(group_id);
        if (members.ok()) {
            warn("updating a group", firewall_.set_group(group_id, *members), group_id);
        }
    }
}

}  // namespace kumoi::compute
