// The part of NeutronNetwork that changes which addresses a server's ports have.
#include "compute/clients/neutron_network.h"

namespace kumoi::clients {
namespace {

QueryString ports_query(const compute::Instance& instance) {
    return QueryString()
        .add("device_id", instance.uuid)
        .add("device_owner", device_owner(instance));
}

Json::Array fixed_ips_of(const Json& port) {
    const Json* addresses = port.find("fixed_ips");
    return addresses != nullptr && addresses->is_array() ? addresses->as_array() : Json::Array();
}

}  // namespace

Result<void> NeutronNetwork::add_fixed_ip(const Context& context, const Instance& instance,
                                          const std::string& network_id) {
    const Caller user = caller_of(context);
    const Json::Array subnets = TRY(neutron_.subnets_of(user, network_id));
    std::string reason = "the network has no subnet, or the server no port in it";
    Json::Array ports;
    if (!subnets.empty()) {
        ports = TRY(neutron_.ports(user, ports_query(instance).add("network_id", network_id)));
    }
    for (const Json& port : ports) {
        for (const Json& subnet : subnets) {
            Json::Array addresses = fixed_ips_of(port);
            addresses.push_back(Json::object({{"subnet_id", subnet.string_or("id")}}));
            const auto updated =
                neutron_.update_port(user, port.string_or("id"),
                                     Json::object({{"fixed_ips", Json(std::move(addresses))}}));
            if (updated.ok()) {
                return {};
            }
            reason = updated.error().message;
        }
    }
    return Error::not_found("Network could not be found for instance {}.", instance.uuid)
        .with_hint(reason)
        .with_fault("NetworkNotFoundForInstance");
}

Result<void> NeutronNetwork::remove_fixed_ip(const Context& context, const Instance& instance,
                                             const std::string& address) {
    const Caller user = caller_of(context);
    const Json::Array ports =
        TRY(neutron_.ports(user, ports_query(instance).add("fixed_ips", "ip_address=" + address)));
    if (ports.empty()) {
        return Error::not_found("Instance {} does not have fixed IP '{}'.", instance.uuid, address)
            .with_fault("FixedIpNotFoundForInstance");
    }
    Json::Array stay = fixed_ips_of(ports[0]);
    std::erase_if(stay, [&](const Json& ip) { return ip.string_or("ip_address") == address; });
    TRY(neutron_.update_port(user, ports[0].string_or("id"),
                             Json::object({{"fixed_ips", Json(std::move(stay))}})));
    return {};
}

}  // namespace kumoi::clients
