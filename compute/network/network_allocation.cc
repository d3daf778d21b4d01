// NetworkService as NetworkApi: the ports of one server, in Nova's rules and error names
// (nova/network/neutron.py: validate_networks, allocate_for_instance).
#include <algorithm>

#include "base/uuid.h"
#include "compute/network/ip_address.h"
#include "compute/network/network_service.h"
#include "compute/network/network_store.h"

namespace kumoi::compute {

using namespace network_errors;  // NOLINT: this folder's own names

namespace {

constexpr const char* kComputeOwner = "compute:nova";

RequestContext tenant_of(const RequestContext& context, const std::string& project_id) {
    RequestContext tenant = context;
    tenant.project_id = project_id;
    tenant.is_admin = false;
    return tenant;
}

FixedIp fixed_ip_of(const PortAddress& address, const Subnet& subnet,
                    std::vector<std::string> dns_servers) {
    FixedIp fixed_ip;
    fixed_ip.address = address.ip_address;
    fixed_ip.subnet_id = subnet.id;
    fixed_ip.cidr = subnet.cidr;
    const auto cidr = IpNetwork::parse(subnet.cidr);
    fixed_ip.prefix_length = cidr ? cidr->prefix_length() : 0;
    fixed_ip.ip_version = subnet.ip_version;
    fixed_ip.gateway = subnet.gateway_ip;
    fixed_ip.dns_servers = std::move(dns_servers);
    for (const HostRoute& route : subnet.host_routes) {
        fixed_ip.routes.emplace_back(route.destination, route.next_hop);
    }
    return fixed_ip;
}

// The port a request names must be free, the project's, and have an address.
Result<void> check_requested_port(const RequestContext& tenant, const Port& port,
                                  const std::string& instance_uuid) {
    if (port.project_id != tenant.project_id) {
        return Error::invalid("Port {} not usable for instance {}.", port.id, instance_uuid)
            .with_fault("PortNotUsable");
    }
    if (!port.device_id.empty() && port.device_id != instance_uuid) {
        return Error::conflict("Port {} is still in use.", port.id).with_fault("PortInUse");
    }
    if (port.fixed_ips.empty()) {
        return Error::invalid("Port {} requires a FixedIP in order to be used.", port.id)
            .with_fault("PortRequiresFixedIP");
    }
    return {};
}

// Nova's name for Neutron's refusals.
Error as_nova_error(Error error, const std::string& network_id) {
    if (error.fault == "IpAddressAlreadyAllocated") {
        error.fault = "FixedIpAlreadyInUse";
    } else if (error.fault == "IpAddressGenerationFailure") {
        error.fault = "NoMoreFixedIps";
    } else if (error.fault == "OverQuota") {
        error.fault = "PortLimitExceeded";
        error.code = ErrorCode::Forbidden;
        error.message = "Maximum number of ports exceeded";
    } else if (error.fault == "InvalidIpForNetwork") {
        error.fault = "FixedIpNotFoundForNetwork";
    } else if (error.fault == "NetworkNotFound") {
        error.message = fmt::format("Network {} could not be found.", network_id);
    }
    return error;
}

}  // namespace

Result<std::vector<RequestedNetwork>> NetworkService::validate_networks(
    const RequestContext& context, std::vector<RequestedNetwork> requested, bool automatic,
    const std::vector<std::string>& security_groups) {
    const RequestContext tenant = tenant_of(context, context.project_id);
    return database_.write([&](SqlSession& sql) -> Result<std::vector<RequestedNetwork>> {
        TRY(group_ids_by_name(sql, tenant.project_id, security_groups));
        if (requested.empty() && automatic) {
            std::vector<std::string> available;
            for (const Network& network : TRY(network_store::list_networks(sql, {}))) {
                if (network.shared || network.project_id == tenant.project_id) {
                    available.push_back(network.id);
                }
            }
            if (available.size() > 1) {
                return Error::conflict(
                           "Multiple possible networks found, use a Network ID to be more "
                           "specific.")
                    .with_fault("NetworkAmbiguous")
                    .with_hint(
                        fmt::format("{} networks are available to this project", available.size()));
            }
            for (const std::string& id : available) {
                RequestedNetwork only;
                only.network_id = id;
                requested.push_back(only);
            }
        }
        for (RequestedNetwork& request : requested) {
            if (request.port_id) {
                const auto ports = TRY(network_store::list_ports(sql, {.ids = {*request.port_id}}));
                if (ports.empty() || ports[0].project_id != tenant.project_id) {
                    return Error::not_found("Port id {} could not be found.", *request.port_id)
                        .with_fault("PortNotFound");
                }
                TRY(check_requested_port(tenant, ports[0], ""));
                request.network_id = ports[0].network_id;
                continue;
            }
            const std::string network_id = request.network_id.value_or("");
            auto network = visible_network(sql, tenant, network_id);
            if (!network.ok()) {
                return as_nova_error(std::move(network).error(), network_id);
            }
            const auto subnets =
                TRY(network_store::list_subnets(sql, {.network_ids = {network_id}}));
            if (subnets.empty() && network->port_security) {
                return Error::invalid(
                           "Network requires port_security_enabled and subnet associated "
                           "in order to apply security groups.")
                    .with_fault("SecurityGroupCannotBeApplied")
                    .with_hint(fmt::format("Create a subnet on network {}", network_id));
            }
            if (!request.fixed_ip) {
                continue;
            }
            const auto wanted = IpAddress::parse(*request.fixed_ip);
            if (!wanted) {
                return Error::invalid("Invalid fixed IP Address {}.", *request.fixed_ip)
                    .with_fault("FixedIpInvalidOnHost");
            }
            for (const Subnet& subnet : subnets) {
                if (!TRY(network_store::address_owner(sql, subnet.id, wanted->text())).empty()) {
                    return Error::conflict("Fixed IP address {} is already in use.",
                                           *request.fixed_ip)
                        .with_fault("FixedIpAlreadyInUse");
                }
            }
        }
        return requested;
    });
}

Result<std::vector<VifInfo>> NetworkService::allocate_for_instance(
    const RequestContext& context, const Instance& instance,
    const std::vector<RequestedNetwork>& requested) {
    auto present = TRY(network_info(instance.uuid));
    if (!present.empty()) {
        return present;  // done before; a repeated build finds what is there
    }
    const RequestContext tenant = tenant_of(context, instance.project_id);
    return change([&](SqlSession& sql, Changes& changes) -> Result<std::vector<VifInfo>> {
        auto names = instance.security_groups;
        if (names.empty()) {
            names = {"default"};
        }
        const auto group_ids = TRY(group_ids_by_name(sql, tenant.project_id, names));
        for (const RequestedNetwork& request : requested) {
            auto port = bind_for_instance(sql, tenant, instance, request, group_ids);
            if (!port.ok()) {
                return as_nova_error(std::move(port).error(), request.network_id.value_or(""));
            }
            changes.add(*port);
        }
        return vifs_of(sql, instance.uuid);
    });
}

Result<Port> NetworkService::bind_for_instance(SqlSession& sql, const RequestContext& context,
                                               const Instance& instance,
                                               const RequestedNetwork& request,
                                               const std::vector<std::string>& group_ids) {
    if (request.port_id) {
        auto ports = TRY(network_store::list_ports(sql, {.ids = {*request.port_id}}));
        if (ports.empty()) {
            return Error::not_found("Port id {} could not be found.", *request.port_id)
                .with_fault("PortNotFound");
        }
        Port port = std::move(ports[0]);
        TRY(check_requested_port(context, port, instance.uuid));
        port.device_id = instance.uuid;
        port.device_owner = kComputeOwner;
        port.host_id = instance.host;
        port.status = "BUILD";
        stamp_changed(port);
        TRY(network_store::update_port(sql, port));
        return port;
    }
    PortCreate create;
    create.project_id = instance.project_id;
    create.network_id = request.network_id.value_or("");
    create.created_by_nova = true;
    const Network network = TRY(visible_network(sql, context, create.network_id));
    create.values.device_id = instance.uuid;
    create.values.device_owner = kComputeOwner;
    create.values.host_id = instance.host;
    if (network.port_security) {
        create.values.security_group_ids = group_ids;
    }
    if (request.fixed_ip) {
        create.values.fixed_ips = {FixedIpRequest{{}, request.fixed_ip}};
    }
    // The compute service acts here: it may bind, and a tenant may ask for an address through it.
    RequestContext service = context;
    service.is_admin = true;
    Port port = TRY(create_port(sql, service, create));
    if (port.fixed_ips.empty() && network.port_security) {
        return Error::invalid("Network {} has no subnet to take an address from.", network.id)
            .with_fault("SecurityGroupCannotBeApplied");
    }
    return port;
}

Result<void> NetworkService::deallocate_for_instance(const RequestContext& context,
                                                     const Instance& instance) {
    (void)context;
    return change([&](SqlSession& sql, Changes& changes) -> Result<void> {
        for (Port& port : TRY(network_store::list_ports(sql, {.device_ids = {instance.uuid}}))) {
            TRY(release_port(sql, std::move(port), changes));
        }
        return {};
    });
}

Result<void> NetworkService::release_port(SqlSession& sql, Port port, Changes& changes) {
    if (port.created_by_nova) {
        return remove_port(sql, port, changes);
    }
    changes.add(port);
    port.device_id.clear();
    port.device_owner.clear();
    port.host_id.clear();
    port.status = "DOWN";
    stamp_changed(port);
    return network_store::update_port(sql, port);
}

Result<VifInfo> NetworkService::allocate_port_for_instance(const RequestContext& context,
                                                           const Instance& instance,
                                                           const RequestedNetwork& requested) {
    const RequestContext tenant = tenant_of(context, instance.project_id);
    return change([&](SqlSession& sql, Changes& changes) -> Result<VifInfo> {
        // As Nova does: a card that comes later is in the project's default group.
        const auto group_ids = TRY(group_ids_by_name(sql, tenant.project_id, {"default"}));
        auto port = bind_for_instance(sql, tenant, instance, requested, group_ids);
        if (!port.ok()) {
            return as_nova_error(std::move(port).error(), requested.network_id.value_or(""));
        }
        changes.add(*port);
        for (VifInfo& vif : TRY(vifs_of(sql, instance.uuid))) {
            if (vif.port_id == port->id) {
                return std::move(vif);
            }
        }
        return Error::internal("Port {} vanished while it was bound", port->id);
    });
}

Result<void> NetworkService::deallocate_port_for_instance(const RequestContext& context,
                                                          const Instance& instance,
                                                          const std::string& port_id) {
    (void)context;
    return change([&](SqlSession& sql, Changes& changes) -> Result<void> {
        for (Port& port : TRY(network_store::list_ports(sql, {.ids = {port_id}}))) {
            if (port.device_id == instance.uuid) {
                TRY(release_port(sql, std::move(port), changes));
            }
        }
        return {};
    });
}

Result<std::vector<VifInfo>> NetworkService::network_info(const std::string& instance_uuid) {
    return database_.read([&](SqlSession& sql) { return vifs_of(sql, instance_uuid); });
}

Result<std::vector<VifInfo>> NetworkService::vifs_of(SqlSession& sql,
                                                     const std::string& device_id) {
    std::vector<VifInfo> vifs;
    for (const Port& port : TRY(network_store::list_ports(sql, {.device_ids = {device_id}}))) {
        const auto networks = TRY(network_store::list_networks(sql, {.ids = {port.network_id}}));
        if (networks.empty()) {
            continue;
        }
        VifInfo vif;
        vif.port_id = port.id;
        vif.network_id = port.network_id;
        vif.network_name = networks[0].name;
        vif.mac = port.mac_address;
        vif.mtu = networks[0].mtu;
        vif.created_by_nova = port.created_by_nova;
        const auto subnets =
            TRY(network_store::list_subnets(sql, {.network_ids = {port.network_id}}));
        for (const PortAddress& address : port.fixed_ips) {
            for (const Subnet& subnet : subnets) {
                if (subnet.id == address.subnet_id) {
                    vif.fixed_ips.push_back(fixed_ip_of(address, subnet, dns_servers_of(subnet)));
                }
            }
        }
        if (!port.security_group_ids.empty()) {
            for (const SecurityGroup& group :
                 TRY(network_store::list_security_groups(sql, {.ids = port.security_group_ids}))) {
                vif.security_group_names.push_back(group.name);
            }
        }
        vifs.push_back(std::move(vif));
    }
    return vifs;
}

Result<void> NetworkService::rebind(const RequestContext& /*context*/, const Instance& instance,
                                    const std::string& host) {
    return database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("UPDATE ports SET host_id = ? WHERE device_id = ?", host, instance.uuid));
        return {};
    });
}

Result<void> NetworkService::unbind(const RequestContext& context, const Instance& instance) {
    return rebind(context, instance, "");
}

}  // namespace kumoi::compute
