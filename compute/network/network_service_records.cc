// NetworkService as NetworkRecords: what a node asks.
#include <algorithm>

#include "compute/network/ip_address.h"
#include "compute/network/ipam.h"
#include "compute/network/network_service.h"
#include "compute/network/network_store.h"

namespace kumoi::compute {

using namespace network_errors;  // NOLINT: this folder's own names

namespace {

constexpr const char* kDhcpOwner = "network:dhcp";

SubnetSpec spec_of(const Subnet& subnet, std::optional<std::string> host_address,
                   std::vector<std::string> dns_servers) {
    SubnetSpec spec;
    spec.id = subnet.id;
    spec.cidr = subnet.cidr;
    spec.ip_version = subnet.ip_version;
    spec.gateway = subnet.gateway_ip;
    spec.host_address = std::move(host_address);
    spec.dhcp = subnet.enable_dhcp;
    spec.dns_servers = std::move(dns_servers);
    for (const HostRoute& route : subnet.host_routes) {
        spec.host_routes.emplace_back(route.destination, route.next_hop);
    }
    return spec;
}

}  // namespace

std::vector<std::string> NetworkService::dns_servers_of(const Subnet& subnet) const {
    if (!subnet.dns_nameservers.empty()) {
        return subnet.dns_nameservers;
    }
    std::vector<std::string> servers;
    for (const std::string& server : options_.dns_servers) {
        const auto address = IpAddress::parse(server);
        if (address && address->version() == subnet.ip_version) {
            servers.push_back(address->text());
        }
    }
    return servers;
}

// The gateway, unless a port holds it (a guest that is the router); then, for DHCP, the address of
// a network:dhcp port, made when first needed.
Result<std::optional<std::string>> NetworkService::host_address(SqlSession& sql,
                                                                const Subnet& subnet) {
    const auto cidr = IpNetwork::parse(subnet.cidr);
    if (!cidr) {
        return std::optional<std::string>();
    }
    const auto gateway = IpAddress::parse(subnet.gateway_ip.value_or(""));
    if (gateway && cidr->contains(*gateway) &&
        TRY(network_store::address_owner(sql, subnet.id, gateway->text())).empty()) {
        return std::optional(gateway->text());
    }
    if (!subnet.enable_dhcp) {
        return std::optional<std::string>();
    }
    for (const Port& port :
         TRY(network_store::list_ports(sql, {.network_ids = {subnet.network_id}}))) {
        for (const PortAddress& address : port.fixed_ips) {
            if (port.device_owner == kDhcpOwner && address.subnet_id == subnet.id) {
                return std::optional(address.ip_address);
            }
        }
    }
    Port port;
    stamp_new(port);
    port.project_id = subnet.project_id;
    port.network_id = subnet.network_id;
    port.device_id = "dhcp-" + subnet.id;
    port.device_owner = kDhcpOwner;
    port.status = "ACTIVE";
    port.port_security = false;
    port.mac_address = TRY(pick_mac(sql, port.network_id, {}, port.id));
    const auto address = TRY(any_address(sql, port, subnet, {}));
    if (!address) {
        return std::optional<std::string>();  // full: its guests have their addresses already
    }
    port.fixed_ips = {*address};
    TRY(network_store::insert_port(sql, port));
    return std::optional(address->ip_address);
}

Result<NetworkSpec> NetworkService::node_network(const std::string& network_id) {
    return database_.write([&](SqlSession& sql) -> Result<NetworkSpec> {
        const auto networks = TRY(network_store::list_networks(sql, {.ids = {network_id}}));
        if (networks.empty()) {
            return network_not_found(network_id);
        }
        NetworkSpec spec;
        spec.id = network_id;
        spec.mtu = networks[0].mtu;
        for (const Subnet& subnet :
             TRY(network_store::list_subnets(sql, {.network_ids = {network_id}}))) {
            spec.subnets.push_back(
                spec_of(subnet, TRY(host_address(sql, subnet)), dns_servers_of(subnet)));
        }
        spec.dhcp_hosts = TRY(network_store::dhcp_hosts(sql, network_id));
        return spec;
    });
}

Result<PortSpec> NetworkService::node_port(const std::string& port_id) {
    return database_.read([&](SqlSession& sql) -> Result<PortSpec> {
        auto ports = TRY(network_store::list_ports(sql, {.ids = {port_id}}));
        if (ports.empty()) {
            return port_not_found(port_id);
        }
        const Port& port = ports[0];
        PortSpec spec;
        spec.id = port.id;
        spec.network_id = port.network_id;
        spec.mac = port.mac_address;
        for (const PortAddress& address : port.fixed_ips) {
            spec.addresses.push_back(address.ip_address);
        }
        spec.allowed_address_pairs = port.allowed_address_pairs;
        spec.port_security = port.port_security;
        spec.admin_state_up = port.admin_state_up;
        spec.security_group_ids = port.security_group_ids;
        if (!port.security_group_ids.empty()) {
            for (const SecurityGroup& group :
                 TRY(network_store::list_security_groups(sql, {.ids = port.security_group_ids}))) {
                spec.rules.insert(spec.rules.end(), group.rules.begin(), group.rules.end());
            }
        }
        return spec;
    });
}

Result<std::vector<std::string>> NetworkService::security_group_addresses(const std::string& id) {
    return database_.read(
        [&](SqlSession& sql) { return network_store::group_member_addresses(sql, id); });
}

Result<void> NetworkService::port_plugged(const std::string& port_id, bool plugged) {
    return database_.write([&](SqlSession& sql) -> Result<void> {
        const auto ports = TRY(network_store::list_ports(sql, {.ids = {port_id}}));
        if (ports.empty()) {
            return port_not_found(port_id);
        }
        return network_store::set_port_status(sql, port_id, plugged ? "ACTIVE" : "DOWN");
    });
}

Result<std::string> NetworkService::server_at(const std::string& network_id,
                                              const std::string& address) {
    const auto parsed = IpAddress::parse(address);
    if (!parsed) {
        return Error::invalid("'{}' is no address", address);
    }
    return database_.read([&](SqlSession& sql) -> Result<std::string> {
        const auto row = TRY(sql.query_one(
            "SELECT device_id FROM ports JOIN ip_allocations ON port_id = ports.id"
            " WHERE ports.network_id = ? AND address = ? AND device_owner LIKE 'compute:%'",
            network_id, parsed->text()));
        if (!row || row->text(0).empty()) {
            return Error::not_found("No server has address {} on network {}", address, network_id);
        }
        return row->text(0);
    });
}

}  // namespace kumoi::compute
