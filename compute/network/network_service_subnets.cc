// NetworkService's subnets: validation, defaults, and who may still use one.
#include <algorithm>

#include "compute/network/ipam.h"
#include "compute/network/network_service.h"
#include "compute/network/network_store.h"

namespace kumoi::compute {

using namespace network_errors;  // NOLINT: this folder's own names

namespace {

constexpr size_t kListLengthMax = 20;  // Neutron: max_dns_nameservers 5, max_subnet_host_routes 20

Result<void> check_lists(const Subnet& subnet) {
    if (subnet.dns_nameservers.size() > kListLengthMax ||
        subnet.host_routes.size() > kListLengthMax ||
        subnet.allocation_pools.size() > kListLengthMax) {
        return invalid_input(
            fmt::format("A subnet has at most {} nameservers, routes and pools", kListLengthMax));
    }
    return check_dns_and_routes(subnet.ip_version, subnet.dns_nameservers, subnet.host_routes);
}

Result<void> check_ipv6_modes(const SubnetCreate& request) {
    for (const auto& mode : {request.ipv6_ra_mode, request.ipv6_address_mode}) {
        if (!mode) {
            continue;
        }
        if (request.ip_version == 4) {
            return invalid_input("ipv6_ra_mode and ipv6_address_mode need ip_version 6");
        }
        if (*mode != "slaac" && *mode != "dhcpv6-stateful" && *mode != "dhcpv6-stateless") {
            return invalid_input("'" + *mode +
                                 "' is not slaac, dhcpv6-stateful or dhcpv6-stateless");
        }
    }
    return {};
}

// Neutron's rule: no two subnets of one network overlap.
Result<void> check_overlap(SqlSession& sql, const Subnet& subnet, const IpNetwork& network) {
    for (const Subnet& other :
         TRY(network_store::list_subnets(sql, {.network_ids = {subnet.network_id}}))) {
        const auto other_network = IpNetwork::parse(other.cidr);
        if (other_network && other_network->overlaps(network)) {
            return invalid_input(fmt::format(
                "Requested subnet with cidr: {} for network: {} overlaps with another subnet",
                subnet.cidr, subnet.network_id));
        }
    }
    return {};
}

void apply_plain(const SubnetUpdate& values, Subnet& subnet) {
    subnet.name = values.name.value_or(subnet.name);
    subnet.description = values.description.value_or(subnet.description);
    subnet.enable_dhcp = values.enable_dhcp.value_or(subnet.enable_dhcp);
    subnet.dns_nameservers = values.dns_nameservers.value_or(subnet.dns_nameservers);
    subnet.host_routes = values.host_routes.value_or(subnet.host_routes);
}

}  // namespace

Result<std::vector<Subnet>> NetworkService::list_subnets(const RequestContext& context,
                                                         const RecordFilter& filter) {
    return database_.read([&](SqlSession& sql) -> Result<std::vector<Subnet>> {
        auto subnets = TRY(network_store::list_subnets(sql, filter));
        if (context.is_admin) {
            return subnets;
        }
        std::set<std::string> shared;
        for (const Network& network : TRY(network_store::list_networks(sql, {}))) {
            if (network.shared) {
                shared.insert(network.id);
            }
        }
        std::erase_if(subnets, [&](const Subnet& subnet) {
            return subnet.project_id != context.project_id && !shared.contains(subnet.network_id);
        });
        return subnets;
    });
}

Result<Subnet> NetworkService::subnet_to_change(SqlSession& sql, const RequestContext& context,
                                                const std::string& id) {
    auto subnets = TRY(network_store::list_subnets(sql, {.ids = {id}}));
    if (subnets.empty()) {
        return subnet_not_found(id);
    }
    if (!context.is_admin && subnets[0].project_id != context.project_id) {
        // Who sees the network sees its subnets.
        return visible_network(sql, context, subnets[0].network_id).ok()
                   ? not_allowed("Changing subnet " + id + " of another project")
                   : subnet_not_found(id);
    }
    return std::move(subnets[0]);
}

Result<std::vector<Subnet>> NetworkService::create_subnets(
    const RequestContext& context, const std::vector<SubnetCreate>& requests) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<std::vector<Subnet>> {
        std::vector<Subnet> subnets;
        for (const SubnetCreate& request : requests) {
            subnets.push_back(TRY(create_subnet(sql, context, request)));
            changes.networks.insert(request.network_id);
        }
        return subnets;
    });
}

Result<Subnet> NetworkService::create_subnet(SqlSession& sql, const RequestContext& context,
                                             const SubnetCreate& request) {
    const Network network = TRY(network_to_change(sql, context, request.network_id));
    TRY(check_quota(sql, "subnet", request.project_id));
    TRY(check_ipv6_modes(request));
    const IpNetwork cidr = TRY(parse_subnet_cidr(request.cidr, request.ip_version));
    Subnet subnet;
    stamp_new(subnet);
    subnet.project_id = request.project_id;
    subnet.network_id = network.id;
    subnet.ip_version = request.ip_version;
    subnet.cidr = cidr.text();
    subnet.ipv6_ra_mode = request.ipv6_ra_mode;
    subnet.ipv6_address_mode = request.ipv6_address_mode;
    TRY(check_overlap(sql, subnet, cidr));
    subnet.gateway_ip = request.values.gateway_ip ? *request.values.gateway_ip
                                                  : std::optional(default_gateway(cidr));
    if (subnet.gateway_ip) {
        TRY(check_gateway(cidr, *subnet.gateway_ip));
    }
    if (request.values.allocation_pools) {
        subnet.allocation_pools = *request.values.allocation_pools;
        TRY(check_pools(cidr, subnet.allocation_pools));
        TRY(check_gateway_outside_pools(subnet.allocation_pools, subnet.gateway_ip));
    } else {
        subnet.allocation_pools = default_pools(cidr, subnet.gateway_ip);
    }
    apply_plain(request.values, subnet);
    TRY(check_lists(subnet));
    TRY(network_store::insert_subnet(sql, subnet));
    return subnet;
}

Result<Subnet> NetworkService::update_subnet(const RequestContext& context, const std::string& id,
                                             const SubnetUpdate& update) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<Subnet> {
        Subnet subnet = TRY(subnet_to_change(sql, context, id));
        const auto cidr = IpNetwork::parse(subnet.cidr);
        if (!cidr) {
            return Error::corrupt("Subnet {} is stored with the CIDR {}", id, subnet.cidr);
        }
        if (update.gateway_ip) {
            if (*update.gateway_ip) {
                TRY(check_gateway(*cidr, **update.gateway_ip));
            }
            subnet.gateway_ip = *update.gateway_ip;
        }
        if (update.allocation_pools) {
            TRY(check_pools(*cidr, *update.allocation_pools));
            subnet.allocation_pools = *update.allocation_pools;
        }
        TRY(check_gateway_outside_pools(subnet.allocation_pools, subnet.gateway_ip));
        apply_plain(update, subnet);
        TRY(check_lists(subnet));
        stamp_changed(subnet);
        TRY(network_store::update_subnet(sql, subnet));
        changes.networks.insert(subnet.network_id);
        return subnet;
    });
}

Result<void> NetworkService::delete_subnet(const RequestContext& context, const std::string& id) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<void> {
        const Subnet subnet = TRY(subnet_to_change(sql, context, id));
        for (Port& port :
             TRY(network_store::list_ports(sql, {.network_ids = {subnet.network_id}}))) {
            const auto uses = [&](const PortAddress& address) { return address.subnet_id == id; };
            if (std::none_of(port.fixed_ips.begin(), port.fixed_ips.end(), uses)) {
                continue;
            }
            if (port.device_owner != "network:dhcp") {
                return Error::conflict(
                           "Unable to complete operation on subnet {}: One or more ports have an "
                           "IP allocation from this subnet.",
                           id)
                    .with_fault("SubnetInUse")
                    .with_hint(fmt::format("Delete port {} first", port.id));
            }
            TRY(remove_port(sql, port, changes));
        }
        changes.networks.insert(subnet.network_id);
        return network_store::delete_subnet(sql, id);
    });
}

}  // namespace kumoi::compute
