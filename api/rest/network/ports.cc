// /v2.0/ports
#include "api/rest/network/attributes.h"
#include "api/rest/network/collection.h"
#include "api/rest/network/network_routes.h"

namespace kumoi::api {
namespace {

using compute::AddressPair;
using compute::FixedIpRequest;
using compute::NetworkService;
using compute::Port;
using compute::PortCreate;
using compute::PortUpdate;
using compute::RequestContext;

const Collection kPorts = {"port",
                           "ports",
                           {"id",
                            "name",
                            "description",
                            "tenant_id",
                            "project_id",
                            "tags",
                            "created_at",
                            "updated_at",
                            "revision_number",
                            "network_id",
                            "mac_address",
                            "admin_state_up",
                            "status",
                            "device_id",
                            "device_owner",
                            "fixed_ips",
                            "allowed_address_pairs",
                            "security_groups",
                            "extra_dhcp_opts",
                            "port_security_enabled",
                            "qos_policy_id",
                            "qos_network_policy_id",
                            "resource_request",
                            "binding:vnic_type",
                            "binding:host_id",
                            "binding:profile",
                            "binding:vif_type",
                            "binding:vif_details"}};

void add_binding(Json& view, const Port& port, const RequestContext& context) {
    view.set("binding:vnic_type", port.vnic_type);
    if (!context.is_admin) {
        return;
    }
    const bool bound = !port.host_id.empty();
    auto profile = Json::parse(port.profile);
    view.set("binding:host_id", port.host_id);
    view.set("binding:profile", profile.ok() ? std::move(*profile) : Json::object());
    view.set("binding:vif_type", bound ? "bridge" : "unbound");
    view.set(
        "binding:vif_details",
        bound ? Json::object({{"port_filter", true}, {"connectivity", "l2"}}) : Json::object());
}

Json port_view(const Port& port, const RequestContext& context) {
    Json view = base_view(port);
    Json::Array fixed_ips;
    for (const auto& address : port.fixed_ips) {
        fixed_ips.push_back(
            Json::object({{"subnet_id", address.subnet_id}, {"ip_address", address.ip_address}}));
    }
    Json::Array pairs;
    for (const AddressPair& pair : port.allowed_address_pairs) {
        pairs.push_back(
            Json::object({{"mac_address", pair.mac.empty() ? port.mac_address : pair.mac},
                          {"ip_address", pair.cidr}}));
    }
    view.set("network_id", port.network_id);
    view.set("mac_address", port.mac_address);
    view.set("admin_state_up", port.admin_state_up);
    view.set("status", port.status);
    view.set("device_id", port.device_id);
    view.set("device_owner", port.device_owner);
    view.set("fixed_ips", Json(std::move(fixed_ips)));
    view.set("allowed_address_pairs", Json(std::move(pairs)));
    view.set("security_groups", Json::array_of(port.security_group_ids));
    view.set("extra_dhcp_opts", Json::array());
    view.set("port_security_enabled", port.port_security);
    view.set("qos_policy_id", Json());
    view.set("qos_network_policy_id", Json());
    view.set("resource_request", Json());
    add_binding(view, port, context);
    return view;
}

Result<std::vector<FixedIpRequest>> parse_fixed_ips(const std::vector<Json>& items) {
    std::vector<FixedIpRequest> requests;
    for (const Json& item : items) {
        Attributes attributes(item, true);
        FixedIpRequest fixed_ip;
        fixed_ip.subnet_id = TRY(attributes.uuid("subnet_id"));
        fixed_ip.ip_address = TRY(attributes.text_or_null("ip_address"));
        TRY(attributes.finish());
        requests.push_back(std::move(fixed_ip));
    }
    return requests;
}

Result<std::vector<AddressPair>> parse_pairs(const std::vector<Json>& items) {
    std::vector<AddressPair> pairs;
    for (const Json& item : items) {
        Attributes attributes(item, true);
        const auto mac = TRY(attributes.text_or_null("mac_address"));
        const std::string ip_address = TRY(attributes.required("ip_address"));
        pairs.push_back({mac.value_or(""), ip_address});
        TRY(attributes.finish());
    }
    return pairs;
}

Result<void> parse_binding(Attributes& attributes, PortUpdate& update) {
    if (const Json* host = attributes.take("binding:host_id")) {
        update.host_id = host->is_null() ? "" : TRY(attributes.text("binding:host_id")).value();
    }
    update.vnic_type = TRY(attributes.text("binding:vnic_type"));
    if (const Json* profile = attributes.take("binding:profile")) {
        if (!profile->is_null() && !profile->is_object()) {
            return attributes.invalid("binding:profile", "it is not a dictionary");
        }
        update.profile = profile->is_null() ? "{}" : profile->dump();
    }
    return {};
}

Result<PortUpdate> parse(Attributes& attributes) {
    PortUpdate update;
    update.name = TRY(attributes.text("name"));
    update.description = TRY(attributes.text("description"));
    update.mac_address = TRY(attributes.text_or_null("mac_address"));
    update.admin_state_up = TRY(attributes.boolean("admin_state_up"));
    update.device_id = TRY(attributes.text("device_id"));
    update.device_owner = TRY(attributes.text("device_owner"));
    update.port_security = TRY(attributes.boolean("port_security_enabled"));
    TRY(parse_binding(attributes, update));
    if (const auto items = TRY(attributes.objects("fixed_ips"))) {
        update.fixed_ips = TRY(parse_fixed_ips(*items));
    }
    if (const auto items = TRY(attributes.objects("allowed_address_pairs"))) {
        update.allowed_address_pairs = TRY(parse_pairs(*items));
    }
    update.security_group_ids = TRY(attributes.texts("security_groups"));
    TRY(attributes.fixed("extra_dhcp_opts", Json::array()));
    TRY(attributes.fixed("qos_policy_id", Json()));
    return update;
}

Result<Reply> create(Request& request, NetworkService& service) {
    const RequestContext context = TRY(writer_of(request));
    const CreateBodies bodies = TRY(create_bodies(kPorts, request));
    std::vector<PortCreate> requests;
    for (const Json& item : bodies.items) {
        Attributes attributes(item, true);
        PortCreate create;
        create.project_id = TRY(attributes.project(auth_of(request)));
        create.network_id = TRY(attributes.required("network_id"));
        create.values = TRY(parse(attributes));
        TRY(attributes.finish());
        requests.push_back(std::move(create));
    }
    std::vector<Json> views;
    for (const Port& port : TRY(service.create_ports(context, requests))) {
        views.push_back(port_view(port, context));
    }
    return create_reply(kPorts, bodies.bulk, std::move(views));
}

Result<Reply> list(Request& request, NetworkService& service) {
    const RequestContext context = TRY(reader_of(request));
    std::vector<Json> views;
    for (const Port& port :
         TRY(service.list_ports(context, {.ids = filter_values(request, "id"),
                                         .network_ids = filter_values(request, "network_id"),
                                         .device_ids = filter_values(request, "device_id")}))) {
        views.push_back(port_view(port, context));
    }
    return list_reply(kPorts, request, std::move(views));
}

Result<Reply> show(Request& request, NetworkService& service) {
    const RequestContext context = TRY(reader_of(request));
    const std::string& id = request.parameter("id");
    const auto ports = TRY(service.list_ports(context, {.ids = {id}}));
    if (ports.empty()) {
        return compute::network_errors::port_not_found(id);
    }
    return show_reply(kPorts, request, port_view(ports[0], context));
}

Result<Reply> update(Request& request, NetworkService& service) {
    const RequestContext context = TRY(writer_of(request));
    const Json body = TRY(update_body(kPorts, request));
    Attributes attributes(body, false);
    for (const char* name : {"network_id", "project_id", "tenant_id"}) {
        TRY(attributes.only_at_creation(name));
    }
    const PortUpdate values = TRY(parse(attributes));
    TRY(attributes.finish());
    const Port port = TRY(service.update_port(context, request.parameter("id"), values));
    return show_reply(kPorts, request, port_view(port, context));
}

Result<Reply> remove(Request& request, NetworkService& service) {
    TRY(service.delete_port(TRY(writer_of(request)), request.parameter("id")));
    return Reply::no_content();
}

}  // namespace

void add_ports(Router& router, NetworkService& service) {
    const auto with = [&service](auto function) {
        return neutron([&service, function](Request& r) { return function(r, service); });
    };
    router.get("/v2.0/ports", with(list));
    router.post("/v2.0/ports", with(create));
    router.get("/v2.0/ports/{id}", with(show));
    router.put("/v2.0/ports/{id}", with(update));
    router.del("/v2.0/ports/{id}", with(remove));
}

}  // namespace kumoi::api
