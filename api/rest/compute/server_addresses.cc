// Addresses and interfaces of a server, as recorded when its ports were made.
#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"
#include "api/rest/compute/server_view.h"
#include "api/rest/schema.h"
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
        view.set("tag", vif.tag.empty() ? Json() : Json(vif.tag));
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

// One address at most, as Nova's schema has it.
Result<std::optional<std::string>> fixed_ip_of(Fields& attachment) {
    const Json* list = attachment.take("fixed_ips");
    if (list == nullptr) {
        return std::optional<std::string>();
    }
    if (!list->is_array() || list->size() != 1) {
        return invalid_input("fixed_ips", *list, "exactly one address is expected");
    }
    Fields fixed_ip = TRY(Fields::of(list->as_array().front(), "fixed_ips"));
    const std::string address = TRY(fixed_ip.text("ip_address"));
    TRY(fixed_ip.finish());
    return std::optional<std::string>(address);
}

Result<compute::RequestedNetwork> requested_network(Call& call) {
    compute::RequestedNetwork wanted;
    Json body = TRY(call.body());
    Fields root = TRY(Fields::of(body, "body"));
    const Json* attachment = root.take("interfaceAttachment");
    TRY(root.finish());
    if (attachment == nullptr) {
        return wanted;
    }
    Fields fields = TRY(Fields::of(*attachment, "interfaceAttachment"));
    wanted.network_id = TRY(fields.optional_uuid("net_id"));
    wanted.port_id = TRY(fields.optional_uuid("port_id"));
    wanted.fixed_ip = TRY(fixed_ip_of(fields));
    if (call.at_least(49)) {
        wanted.tag = TRY(fields.optional_text("tag", {1, 60}));
    }
    TRY(fields.finish());
    if (wanted.network_id && wanted.port_id) {
        return Error::invalid("Must not input both network_id and port_id");
    }
    if (wanted.fixed_ip && !wanted.network_id) {
        return Error::invalid("Must input network_id when request IP address");
    }
    return wanted;
}

// Nova answers these with 400 here, whatever they are elsewhere.
Error as_attach_error(Error error) {
    for (const char* fault : {"NetworkAmbiguous", "NoMoreFixedIps", "PortNotUsable",
                              "SecurityGroupCannotBeApplied", "FixedIpNotFoundForNetwork"}) {
        if (error.fault == fault) {
            error.code = ErrorCode::InvalidArgument;
        }
    }
    return error;
}

Result<Reply> attach_interface(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-attach-interfaces:create"));
    const compute::RequestedNetwork wanted = TRY(requested_network(call));
    const auto attached =
        call.conductor().attach_interface(call.context(), server->instance.uuid, wanted);
    if (!attached.ok()) {
        return as_attach_error(attached.error());
    }
    return Reply::json(
        Json::object({{"interfaceAttachment", interface_view(call, server->instance, *attached)}}));
}

Result<Reply> detach_interface(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-attach-interfaces:delete"));
    TRY(call.conductor().detach_interface(call.context(), server->instance.uuid,
                                          call.parameter("port_id")));
    return Reply::accepted();
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
