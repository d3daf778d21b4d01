// Addresses and interfaces of a server, as recorded when its ports were made.
#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"
#include "api/rest/compute/server_view.h"
#include "compute/vm_states.h"

namespace kumoi::api {
namespace {

using compute::VifInfo;

// The short form of /ips: version and address only.
Json plain_addresses(const compute::Instance& instance, const std::string& network) {
    Json addresses = Json::array();
    for (const VifInfo& vif : instance.network_info) {
        if (vif.network_name != network) {
            continue;
        }
        for (const compute::FixedIp& ip : vif.fixed_ips) {
            addresses.push_back(Json::object({{"version", ip.ip_version}, {"addr", ip.address}}));
        }
    }
    return addresses;
}

Result<Reply> list_ips(Call& call) {
    const auto server = TRY(call.server("os_compute_api:ips:index"));
    Json networks = Json::object();
    for (const VifInfo& vif : server->instance.network_info) {
        networks.set(vif.network_name, plain_addresses(server->instance, vif.network_name));
    }
    return Reply::json(Json::object({{"addresses", std::move(networks)}}));
}

Result<Reply> show_ips(Call& call) {
    const auto server = TRY(call.server("os_compute_api:ips:show"));
    const std::string& name = call.parameter("network");
    for (const VifInfo& vif : server->instance.network_info) {
        if (vif.network_name == name) {
            Json body = Json::object();
            body.set(name, plain_addresses(server->instance, name));
            return Reply::json(body);
        }
    }
    return Error::not_found("Instance is not a member of specified network")
        .with_hint("The network was " + name + ".");
}

Json interface_view(const Call& call, const compute::Instance& instance, const VifInfo& vif) {
    Json ips = Json::array();
    for (const compute::FixedIp& ip : vif.fixed_ips) {
        ips.push_back(Json::object({{"subnet_id", ip.subnet_id}, {"ip_address", ip.address}}));
    }
    const bool active = instance.vm_state == compute::vm_states::kActive ||
                        instance.vm_state == compute::vm_states::kPaused;
    Json view = Json::object({{"net_id", vif.network_id},
                              {"port_id", vif.port_id},
                              {"mac_addr", vif.mac},
                              {"port_state", active ? "ACTIVE" : "DOWN"},
                              {"fixed_ips", std::move(ips)}});
    if (call.at_least(70)) {
        view.set("tag", Json());
    }
    return view;
}

Result<Reply> list_interfaces(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-attach-interfaces:list"));
    Json interfaces = Json::array();
    for (const VifInfo& vif : server->instance.network_info) {
        interfaces.push_back(interface_view(call, server->instance, vif));
    }
    return Reply::json(Json::object({{"interfaceAttachments", std::move(interfaces)}}));
}

Result<Reply> show_interface(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-attach-interfaces:show"));
    const std::string& port = call.parameter("port_id");
    for (const VifInfo& vif : server->instance.network_info) {
        if (vif.port_id == port) {
            return Reply::json(Json::object(
                {{"interfaceAttachment", interface_view(call, server->instance, vif)}}));
        }
    }
    return Error::not_found("Instance {} does not have a port with id {}", server->instance.uuid,
                            port);
}

Error no_hot_plug() {
    return Error::unsupported("Interfaces cannot be attached to or detached from a server yet.")
        .with_hint("Name all networks when the server is created.");
}

Result<Reply> attach_interface(Call& call) {
    TRY(call.server("os_compute_api:os-attach-interfaces:create"));
    return no_hot_plug();
}

Result<Reply> detach_interface(Call& call) {
    TRY(call.server("os_compute_api:os-attach-interfaces:delete"));
    return no_hot_plug();
}

}  // namespace

void add_server_address_routes(ComputeRoutes& routes) {
    routes.add("GET", "/servers/{server_id}/ips", list_ips);
    routes.add("GET", "/servers/{server_id}/ips/{network}", show_ips);
    routes.add("GET", "/servers/{server_id}/os-interface", list_interfaces);
    routes.add("POST", "/servers/{server_id}/os-interface", attach_interface);
    routes.add("GET", "/servers/{server_id}/os-interface/{port_id}", show_interface);
    routes.add("DELETE", "/servers/{server_id}/os-interface/{port_id}", detach_interface);
}

}  // namespace kumoi::api
