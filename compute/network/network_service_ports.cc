// NetworkService's ports: who may set what, MAC and address allocation, groups.
#include <algorithm>

#include "base/json.h"
#include "compute/network/ipam.h"
#include "compute/network/network_service.h"
#include "compute/network/network_store.h"

namespace kumoi::compute {

using namespace network_errors;  // NOLINT: this folder's own names

namespace {

constexpr int kMacTries = 64;  // 24 random bits: a thousand tries would mean a full network
constexpr size_t kFixedIpsMax = 16;
constexpr size_t kAddressPairsMax = 10;  // Neutron: max_allowed_address_pair

bool is_network_device(const std::string& owner) {
    return owner.starts_with("network:");
}

// Neutron's policy: on a network of another project only its owner may choose addresses or lower
// the guards; binding is for admins (the compute service).
Result<void> check_policy(const RequestContext& context, const Network& network,
                          const PortUpdate& update, const Port& port) {
    if (context.is_admin) {
        return {};
    }
    if ((update.host_id && *update.host_id != port.host_id) ||
        (update.profile && *update.profile != port.profile)) {
        return not_allowed("Setting binding:host_id or binding:profile");
    }
    if (network.project_id == context.project_id) {
        return {};
    }
    if (update.device_owner && is_network_device(*update.device_owner)) {
        return not_allowed("Making a network device on a network of another project");
    }
    if (update.mac_address || update.port_security || update.allowed_address_pairs) {
        return not_allowed(
            "Setting mac_address, port_security_enabled or allowed_address_pairs on a network of "
            "another project");
    }
    for (const FixedIpRequest& request : update.fixed_ips.value_or(std::vector<FixedIpRequest>())) {
        if (request.ip_address) {
            return not_allowed("Choosing an IP address on a network of another project");
        }
    }
    return {};
}

Result<std::vector<AddressPair>> check_pairs(const std::vector<AddressPair>& pairs) {
    if (pairs.size() > kAddressPairsMax) {
        return Error::invalid("The number of allowed address pair exceeds the maximum {}.",
                              kAddressPairsMax)
            .with_fault("AllowedAddressPairExhausted");
    }
    std::vector<AddressPair> checked;
    for (const AddressPair& pair : pairs) {
        const auto network = IpNetwork::parse(pair.cidr);
        const auto mac = pair.mac.empty() ? std::optional(std::string()) : parse_mac(pair.mac);
        if (!network || !mac) {
            return invalid_input(
                fmt::format("'{}' with MAC '{}' is not a valid address pair", pair.cidr, pair.mac));
        }
        const bool single = pair.cidr.find('/') == std::string::npos;
        checked.push_back({*mac, single ? network->address().text() : network->text()});
    }
    return checked;
}

Result<void> check_security(const Port& port) {
    if (port.port_security) {
        return {};
    }
    if (!port.security_group_ids.empty()) {
        return Error::conflict(
                   "Port has security group associated. Cannot disable port security or IP address "
                   "until security group is removed.")
            .with_fault("PortSecurityPortHasSecurityGroup");
    }
    if (!port.allowed_address_pairs.empty()) {
        return Error::conflict(
                   "Port Security must be enabled in order to have allowed address pairs "
                   "on a port.")
            .with_fault("AddressPairAndPortSecurityRequired");
    }
    return {};
}

Result<void> check_profile(const std::string& profile) {
    const auto json = Json::parse(profile);
    return json.ok() && json->is_object() ? Result<void>()
                                          : invalid_input("binding:profile is not an object");
}

// A port that no host carries is DOWN; one that a host will carry is BUILD until it is plugged.
std::string status_of(const Port& port) {
    if (port.host_id.empty()) {
        return "DOWN";
    }
    return port.status == "ACTIVE" ? "ACTIVE" : "BUILD";
}

}  // namespace

Result<std::vector<Port>> NetworkService::list_ports(const RequestContext& context,
                                                     const RecordFilter& filter) {
    return database_.read([&](SqlSession& sql) -> Result<std::vector<Port>> {
        auto ports = TRY(network_store::list_ports(sql, filter));
        if (context.is_admin) {
            return ports;
        }
        // The owner of a network sees the ports of others on it, as in Neutron.
        std::set<std::string> own;
        for (const Network& network :
             TRY(network_store::list_networks(sql, {.project_ids = {context.project_id}}))) {
            own.insert(network.id);
        }
        std::erase_if(ports, [&](const Port& port) {
            return port.project_id != context.project_id && !own.contains(port.network_id);
        });
        return ports;
    });
}

Result<Port> NetworkService::port_to_change(SqlSession& sql, const RequestContext& context,
                                            const std::string& id) {
    auto ports = TRY(network_store::list_ports(sql, {.ids = {id}}));
    if (ports.empty()) {
        return port_not_found(id);
    }
    if (!context.is_admin && ports[0].project_id != context.project_id) {
        const auto networks =
            TRY(network_store::list_networks(sql, {.ids = {ports[0].network_id}}));
        if (networks.empty() || networks[0].project_id != context.project_id) {
            return port_not_found(id);
        }
    }
    return std::move(ports[0]);
}

Result<std::vector<Port>> NetworkService::create_ports(const RequestContext& context,
                                                       const std::vector<PortCreate>& requests) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<std::vector<Port>> {
        std::vector<Port> ports;
        for (const PortCreate& request : requests) {
            ports.push_back(TRY(create_port(sql, context, request)));
            changes.add(ports.back());
        }
        return ports;
    });
}

Result<Port> NetworkService::create_port(SqlSession& sql, const RequestContext& context,
                                         const PortCreate& request) {
    const Network network = TRY(visible_network(sql, context, request.network_id));
    TRY(check_quota(sql, "port", request.project_id));
    Port port;
    stamp_new(port);
    port.project_id = request.project_id;
    port.network_id = network.id;
    port.created_by_nova = request.created_by_nova;
    port.status = "DOWN";
    port.port_security = network.port_security;
    PortUpdate values = request.values;
    const bool secure = values.port_security.value_or(port.port_security);
    if (!values.security_group_ids && secure &&
        !is_network_device(values.device_owner.value_or(""))) {
        values.security_group_ids = {TRY(default_group(sql, port.project_id))};
    }
    TRY(apply_port_update(sql, context, network, values, port));
    if (port.mac_address.empty()) {
        port.mac_address = TRY(pick_mac(sql, network.id, {}, port.id));
    }
    if (!values.fixed_ips) {
        port.fixed_ips = TRY(allocate_addresses(sql, port, {}));
    }
    TRY(network_store::insert_port(sql, port));
    return port;
}

Result<void> NetworkService::apply_port_update(SqlSession& sql, const RequestContext& context,
                                               const Network& network, const PortUpdate& update,
                                               Port& port) {
    TRY(check_policy(context, network, update, port));
    port.name = update.name.value_or(port.name);
    port.description = update.description.value_or(port.description);
    port.admin_state_up = update.admin_state_up.value_or(port.admin_state_up);
    port.device_id = update.device_id.value_or(port.device_id);
    port.device_owner = update.device_owner.value_or(port.device_owner);
    port.vnic_type = update.vnic_type.value_or(port.vnic_type);
    port.port_security = update.port_security.value_or(port.port_security);
    if (port.vnic_type != "normal") {
        return Error::unsupported("binding:vnic_type {} is not offered; only normal is",
                                  port.vnic_type)
            .with_fault("InvalidInput");
    }
    if (update.profile) {
        TRY(check_profile(*update.profile));
        port.profile = *update.profile;
    }
    if (update.host_id) {
        port.host_id = *update.host_id;
        port.status = status_of(port);
    }
    if (update.mac_address) {
        port.mac_address = TRY(pick_mac(sql, network.id, update.mac_address, port.id));
    }
    if (update.allowed_address_pairs) {
        port.allowed_address_pairs = TRY(check_pairs(*update.allowed_address_pairs));
    }
    if (update.security_group_ids) {
        RequestContext owner = context;
        owner.is_admin = false;
        owner.project_id = port.project_id;
        for (const std::string& group_id : *update.security_group_ids) {
            TRY(group_to_change(sql, context.is_admin ? context : owner, group_id));
        }
        port.security_group_ids = *update.security_group_ids;
    }
    TRY(check_security(port));
    if (update.fixed_ips) {
        if (port.mac_address.empty()) {
            port.mac_address = TRY(pick_mac(sql, network.id, {}, port.id));
        }
        port.fixed_ips = TRY(allocate_addresses(sql, port, update.fixed_ips));
    }
    return {};
}

Result<Port> NetworkService::update_port(const RequestContext& context, const std::string& id,
                                         const PortUpdate& update) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<Port> {
        Port port = TRY(port_to_change(sql, context, id));
        const auto networks = TRY(network_store::list_networks(sql, {.ids = {port.network_id}}));
        if (networks.empty()) {
            return network_not_found(port.network_id);
        }
        if (update.device_id && !update.device_id->empty() && !port.device_id.empty() &&
            *update.device_id != port.device_id && !context.is_admin) {
            return Error::conflict(
                       "Unable to complete operation on port {} for network {}. Port already has "
                       "an attached device {}.",
                       id, port.network_id, port.device_id)
                .with_fault("PortInUse");
        }
        changes.add(port);
        TRY(apply_port_update(sql, context, networks[0], update, port));
        stamp_changed(port);
        TRY(network_store::update_port(sql, port));
        changes.add(port);
        return port;
    });
}

Result<void> NetworkService::delete_port(const RequestContext& context, const std::string& id) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<void> {
        return remove_port(sql, TRY(port_to_change(sql, context, id)), changes);
    });
}

Result<void> NetworkService::remove_port(SqlSession& sql, const Port& port, Changes& changes) {
    changes.add(port);
    return network_store::delete_port(sql, port.id);
}

Result<std::string> NetworkService::pick_mac(SqlSession& sql, const std::string& network_id,
                                             const std::optional<std::string>& wanted,
                                             const std::string& port_id) {
    const auto owner = [&](const std::string& mac) -> Result<std::string> {
        const auto row = TRY(sql.query_one("SELECT id FROM ports WHERE network_id = ? AND mac = ?",
                                           network_id, mac));
        return row ? row->text(0) : std::string();
    };
    if (wanted) {
        const auto mac = parse_mac(*wanted);
        if (!mac) {
            return invalid_input("'" + *wanted + "' is not a valid unicast MAC address");
        }
        const std::string holder = TRY(owner(*mac));
        if (!holder.empty() && holder != port_id) {
            return Error::conflict(
                       "Unable to complete operation for network {}. The mac address {} is in use.",
                       network_id, *mac)
                .with_fault("MacAddressInUse");
        }
        return *mac;
    }
    for (int i = 0; i < kMacTries; ++i) {
        const std::string mac = random_mac(random_);
        if (TRY(owner(mac)).empty()) {
            return mac;
        }
    }
    return Error::exhausted("Unable to generate unique mac on network {}.", network_id)
        .with_fault("MacAddressGenerationFailure");
}

Result<std::vector<PortAddress>> NetworkService::allocate_addresses(
    SqlSession& sql, const Port& port, const std::optional<std::vector<FixedIpRequest>>& requests) {
    const auto subnets = TRY(network_store::list_subnets(sql, {.network_ids = {port.network_id}}));
    std::vector<PortAddress> addresses;
    if (requests) {
        if (requests->size() > kFixedIpsMax) {
            return invalid_input(fmt::format("A port has at most {} fixed IPs", kFixedIpsMax));
        }
        for (const FixedIpRequest& request : *requests) {
            addresses.push_back(TRY(allocate_address(sql, port, subnets, request, addresses)));
        }
        return addresses;
    }
    // One address of each IP version the network has.
    for (const int version : {4, 6}) {
        bool any = false;
        bool done = false;
        for (const Subnet& subnet : subnets) {
            if (subnet.ip_version != version || done) {
                continue;
            }
            any = true;
            if (const auto address = TRY(any_address(sql, port, subnet, addresses))) {
                addresses.push_back(*address);
                done = true;
            }
        }
        if (any && !done) {
            return Error::exhausted("No more IP addresses available on network {}.",
                                    port.network_id)
                .with_fault("IpAddressGenerationFailure")
                .with_hint("Delete ports or widen the allocation pools");
        }
    }
    return addresses;
}

Result<std::optional<PortAddress>> NetworkService::any_address(
    SqlSession& sql, const Port& port, const Subnet& subnet,
    const std::vector<PortAddress>& taken) {
    const auto is_free = [&](const IpAddress& address) -> Result<bool> {
        const PortAddress candidate = {subnet.id, address.text()};
        if (std::find(taken.begin(), taken.end(), candidate) != taken.end()) {
            return false;
        }
        const std::string holder =
            TRY(network_store::address_owner(sql, subnet.id, candidate.ip_address));
        return holder.empty();
    };
    const std::string mode = subnet.ipv6_address_mode.value_or("");
    if (mode == "slaac" || mode == "dhcpv6-stateless") {
        const auto cidr = IpNetwork::parse(subnet.cidr);
        if (cidr && cidr->prefix_length() == 64) {
            return std::optional<PortAddress>(
                {subnet.id, slaac_address(*cidr, port.mac_address).text()});
        }
    }
    // What the port already has in this subnet stays with it.
    for (const PortAddress& address : port.fixed_ips) {
        if (address.subnet_id == subnet.id &&
            std::find(taken.begin(), taken.end(), address) == taken.end()) {
            return std::optional(address);
        }
    }
    const auto picked = TRY(pick_address(subnet.allocation_pools, random_, is_free));
    return picked ? std::optional<PortAddress>({subnet.id, picked->text()})
                  : std::optional<PortAddress>();
}

Result<PortAddress> NetworkService::allocate_address(SqlSession& sql, const Port& port,
                                                     const std::vector<Subnet>& subnets,
                                                     const FixedIpRequest& request,
                                                     const std::vector<PortAddress>& taken) {
    const auto wanted = IpAddress::parse(request.ip_address.value_or(""));
    if (request.ip_address && !wanted) {
        return invalid_input("'" + *request.ip_address + "' is not a valid IP address");
    }
    bool subnet_found = false;
    for (const Subnet& subnet : subnets) {
        if (request.subnet_id && *request.subnet_id != subnet.id) {
            continue;
        }
        subnet_found = true;
        if (!wanted) {
            if (const auto address = TRY(any_address(sql, port, subnet, taken))) {
                return *address;
            }
            continue;
        }
        const auto cidr = IpNetwork::parse(subnet.cidr);
        if (!cidr || !usable_in(*cidr, *wanted)) {
            continue;
        }
        const PortAddress address = {subnet.id, wanted->text()};
        const std::string holder =
            TRY(network_store::address_owner(sql, subnet.id, address.ip_address));
        if ((!holder.empty() && holder != port.id) ||
            std::find(taken.begin(), taken.end(), address) != taken.end()) {
            return Error::conflict("IP address {} already allocated in subnet {}",
                                   address.ip_address, subnet.id)
                .with_fault("IpAddressAlreadyAllocated");
        }
        return address;
    }
    if (request.subnet_id && !subnet_found) {
        return invalid_input(fmt::format(
            "Failed to create port on network {}, because fixed_ips included invalid subnet {}",
            port.network_id, *request.subnet_id));
    }
    if (wanted) {
        return Error::invalid(
                   "IP address {} is not a valid IP for any of the subnets on the specified "
                   "network.",
                   *request.ip_address)
            .with_fault(request.subnet_id ? "InvalidIpForSubnet" : "InvalidIpForNetwork");
    }
    return Error::exhausted("No more IP addresses available on network {}.", port.network_id)
        .with_fault("IpAddressGenerationFailure");
}

}  // namespace kumoi::compute
