// /v2.0/networks
#include "api/rest/network/attributes.h"
#include "api/rest/network/collection.h"
#include "api/rest/network/network_routes.h"

namespace kumoi::api {
namespace {

using compute::Network;
using compute::NetworkCreate;
using compute::NetworkService;
using compute::NetworkUpdate;
using compute::RequestContext;

const Collection kNetworks = {"network",
                              "networks",
                              {"id",
                               "name",
                               "description",
                               "tenant_id",
                               "project_id",
                               "tags",
                               "created_at",
                               "updated_at",
                               "revision_number",
                               "admin_state_up",
                               "mtu",
                               "status",
                               "subnets",
                               "shared",
                               "router:external",
                               "is_default",
                               "port_security_enabled",
                               "availability_zone_hints",
                               "availability_zones",
                               "ipv4_address_scope",
                               "ipv6_address_scope",
                               "qos_policy_id",
                               "provider:network_type",
                               "provider:physical_network",
                               "provider:segmentation_id"}};

Json network_view(const Network& network, const RequestContext& context) {
    Json view = base_view(network);
    view.set("admin_state_up", network.admin_state_up);
    view.set("mtu", network.mtu);
    view.set("status", network.admin_state_up ? "ACTIVE" : "DOWN");
    view.set("subnets", Json::array_of(network.subnet_ids));
    view.set("shared", network.shared);
    view.set("router:external", false);
    view.set("is_default", false);
    view.set("port_security_enabled", network.port_security);
    view.set("availability_zone_hints", Json::array());
    view.set("availability_zones", Json(Json::Array{"nova"}));
    view.set("ipv4_address_scope", Json());
    view.set("ipv6_address_scope", Json());
    view.set("qos_policy_id", Json());
    if (context.is_admin) {
        // A bridge on the host and no wire beyond it: what Neutron calls local.
        view.set("provider:network_type", "local");
        view.set("provider:physical_network", Json());
        view.set("provider:segmentation_id", Json());
    }
    return view;
}

Result<NetworkUpdate> parse(Attributes& attributes) {
    NetworkUpdate update;
    update.name = TRY(attributes.text("name"));
    update.description = TRY(attributes.text("description"));
    update.admin_state_up = TRY(attributes.boolean("admin_state_up"));
    update.shared = TRY(attributes.boolean("shared"));
    update.port_security = TRY(attributes.boolean("port_security_enabled"));
    update.mtu = TRY(attributes.integer("mtu", {0, 65'535}));
    if (update.mtu == 0) {
        update.mtu.reset();  // Neutron's "you choose"
    }
    TRY(attributes.fixed("router:external", false));
    TRY(attributes.fixed("is_default", false));
    TRY(attributes.fixed("provider:network_type", "local"));
    TRY(attributes.fixed("provider:physical_network", Json()));
    TRY(attributes.fixed("provider:segmentation_id", Json()));
    TRY(attributes.fixed("qos_policy_id", Json()));
    (void)attributes.take("availability_zone_hints");  // all networks are in the one zone
    return update;
}

Result<Reply> create(Request& request, NetworkService& service) {
    const RequestContext context = TRY(writer_of(request));
    const CreateBodies bodies = TRY(create_bodies(kNetworks, request));
    std::vector<NetworkCreate> requests;
    for (const Json& item : bodies.items) {
        Attributes attributes(item, true);
        NetworkCreate create;
        create.project_id = TRY(attributes.project(auth_of(request)));
        create.values = TRY(parse(attributes));
        TRY(attributes.finish());
        requests.push_back(std::move(create));
    }
    std::vector<Json> views;
    for (const Network& network : TRY(service.create_networks(context, requests))) {
        views.push_back(network_view(network, context));
    }
    return create_reply(kNetworks, bodies.bulk, std::move(views));
}

Result<Reply> list(Request& request, NetworkService& service) {
    const RequestContext context = TRY(reader_of(request));
    std::vector<Json> views;
    for (const Network& network :
         TRY(service.list_networks(context, {.ids = filter_values(request, "id")}))) {
        views.push_back(network_view(network, context));
    }
    return list_reply(kNetworks, request, std::move(views));
}

Result<Reply> show(Request& request, NetworkService& service) {
    const RequestContext context = TRY(reader_of(request));
    const std::string& id = request.parameter("id");
    const auto networks = TRY(service.list_networks(context, {.ids = {id}}));
    if (networks.empty()) {
        return compute::network_errors::network_not_found(id);
    }
    return show_reply(kNetworks, request, network_view(networks[0], context));
}

Result<Reply> update(Request& request, NetworkService& service) {
    const RequestContext context = TRY(writer_of(request));
    const Json body = TRY(update_body(kNetworks, request));
    Attributes attributes(body, false);
    const NetworkUpdate values = TRY(parse(attributes));
    TRY(attributes.finish());
    const Network network = TRY(service.update_network(context, request.parameter("id"), values));
    return show_reply(kNetworks, request, network_view(network, context));
}

Result<Reply> remove(Request& request, NetworkService& service) {
    TRY(service.delete_network(TRY(writer_of(request)), request.parameter("id")));
    return Reply::no_content();
}

}  // namespace

void add_networks(Router& router, NetworkService& service) {
    const auto with = [&service](auto function) {
        return neutron([&service, function](Request& r) { return function(r, service); });
    };
    router.get("/v2.0/networks", with(list));
    router.post("/v2.0/networks", with(create));
    router.get("/v2.0/networks/{id}", with(show));
    router.put("/v2.0/networks/{id}", with(update));
    router.del("/v2.0/networks/{id}", with(remove));
}

}  // namespace kumoi::api
