// /v2.0/subnets
#include "api/rest/network/attributes.h"
#include "api/rest/network/collection.h"
#include "api/rest/network/network_routes.h"

namespace kumoi::api {
namespace {

using compute::AllocationPool;
using compute::HostRoute;
using compute::NetworkService;
using compute::RequestContext;
using compute::Subnet;
using compute::SubnetCreate;
using compute::SubnetUpdate;

const Collection kSubnets = {"subnet",
                             "subnets",
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
                              "ip_version",
                              "cidr",
                              "gateway_ip",
                              "enable_dhcp",
                              "allocation_pools",
                              "dns_nameservers",
                              "host_routes",
                              "ipv6_ra_mode",
                              "ipv6_address_mode",
                              "subnetpool_id",
                              "service_types",
                              "segment_id",
                              "shared",
                              "router:external"}};

Json subnet_view(const Subnet& subnet) {
    Json view = base_view(subnet);
    Json::Array pools;
    for (const AllocationPool& pool : subnet.allocation_pools) {
        pools.push_back(Json::object({{"start", pool.start}, {"end", pool.end}}));
    }
    Json::Array routes;
    for (const HostRoute& route : subnet.host_routes) {
        routes.push_back(
            Json::object({{"destination", route.destination}, {"nexthop", route.next_hop}}));
    }
    view.set("network_id", subnet.network_id);
    view.set("ip_version", subnet.ip_version);
    view.set("cidr", subnet.cidr);
    view.set("gateway_ip", subnet.gateway_ip);
    view.set("enable_dhcp", subnet.enable_dhcp);
    view.set("allocation_pools", Json(std::move(pools)));
    view.set("dns_nameservers", Json::array_of(subnet.dns_nameservers));
    view.set("host_routes", Json(std::move(routes)));
    view.set("ipv6_ra_mode", subnet.ipv6_ra_mode);
    view.set("ipv6_address_mode", subnet.ipv6_address_mode);
    view.set("subnetpool_id", Json());
    view.set("service_types", Json::array());
    return view;
}

// Both members of a pair of addresses, and nothing else.
Result<std::pair<std::string, std::string>> text_pair(const Json& object, const char* first,
                                                      const char* second) {
    Attributes attributes(object, true);
    const std::string first_text = TRY(attributes.required(first));
    const std::string second_text = TRY(attributes.required(second));
    TRY(attributes.finish());
    return std::pair(first_text, second_text);
}

Result<SubnetUpdate> parse(Attributes& attributes) {
    SubnetUpdate update;
    update.name = TRY(attributes.text("name"));
    update.description = TRY(attributes.text("description"));
    update.enable_dhcp = TRY(attributes.boolean("enable_dhcp"));
    if (const Json* gateway = attributes.take("gateway_ip")) {
        update.gateway_ip = TRY(attributes.text_or_null("gateway_ip"));
        (void)gateway;
    }
    if (const auto pools = TRY(attributes.objects("allocation_pools"))) {
        update.allocation_pools.emplace();
        for (const Json& pool : *pools) {
            auto [start, end] = TRY(text_pair(pool, "start", "end"));
            update.allocation_pools->push_back({start, end});
        }
    }
    if (const auto routes = TRY(attributes.objects("host_routes"))) {
        update.host_routes.emplace();
        for (const Json& route : *routes) {
            auto [destination, next_hop] = TRY(text_pair(route, "destination", "nexthop"));
            update.host_routes->push_back({destination, next_hop});
        }
    }
    update.dns_nameservers = TRY(attributes.texts("dns_nameservers"));
    TRY(attributes.fixed("service_types", Json::array()));
    return update;
}

Result<SubnetCreate> parse_create(const Json& item, const AuthContext& who) {
    Attributes attributes(item, true);
    SubnetCreate create;
    create.project_id = TRY(attributes.project(who));
    create.network_id = TRY(attributes.required("network_id"));
    TRY(attributes.fixed("subnetpool_id", Json()));
    TRY(attributes.fixed("use_default_subnetpool", false));
    TRY(attributes.fixed("segment_id", Json()));
    if (!item.contains("cidr")) {
        (void)attributes.take("cidr");
        return attributes.invalid("cidr",
                                  "a subnetpool or a cidr must be specified, and subnet "
                                  "pools are not offered here");
    }
    create.cidr = TRY(attributes.required("cidr"));
    create.ip_version = static_cast<int>(TRY(attributes.integer("ip_version", {4, 6})).value_or(4));
    create.ipv6_ra_mode = TRY(attributes.text_or_null("ipv6_ra_mode"));
    create.ipv6_address_mode = TRY(attributes.text_or_null("ipv6_address_mode"));
    create.values = TRY(parse(attributes));
    TRY(attributes.finish());
    return create;
}

Result<Reply> create(Request& request, NetworkService& service) {
    const RequestContext context = TRY(writer_of(request));
    const CreateBodies bodies = TRY(create_bodies(kSubnets, request));
    std::vector<SubnetCreate> requests;
    for (const Json& item : bodies.items) {
        requests.push_back(TRY(parse_create(item, auth_of(request))));
    }
    std::vector<Json> views;
    for (const Subnet& subnet : TRY(service.create_subnets(context, requests))) {
        views.push_back(subnet_view(subnet));
    }
    return create_reply(kSubnets, bodies.bulk, std::move(views));
}

Result<Reply> list(Request& request, NetworkService& service) {
    const RequestContext context = TRY(reader_of(request));
    std::vector<Json> views;
    for (const Subnet& subnet :
         TRY(service.list_subnets(context, {.ids = filter_values(request, "id"),
                                           .network_ids = filter_values(request, "network_id")}))) {
        views.push_back(subnet_view(subnet));
    }
    return list_reply(kSubnets, request, std::move(views));
}

Result<Reply> show(Request& request, NetworkService& service) {
    const std::string& id = request.parameter("id");
    const auto subnets = TRY(service.list_subnets(TRY(reader_of(request)), {.ids = {id}}));
    if (subnets.empty()) {
        return compute::network_errors::subnet_not_found(id);
    }
    return show_reply(kSubnets, request, subnet_view(subnets[0]));
}

Result<Reply> update(Request& request, NetworkService& service) {
    const RequestContext context = TRY(writer_of(request));
    const Json body = TRY(update_body(kSubnets, request));
    Attributes attributes(body, false);
    for (const char* name : {"cidr", "network_id", "ip_version", "ipv6_ra_mode",
                             "ipv6_address_mode", "subnetpool_id", "project_id", "tenant_id"}) {
        TRY(attributes.only_at_creation(name));
    }
    const SubnetUpdate values = TRY(parse(attributes));
    TRY(attributes.finish());
    return show_reply(
        kSubnets, request,
        subnet_view(TRY(service.update_subnet(context, request.parameter("id"), values))));
}

Result<Reply> remove(Request& request, NetworkService& service) {
    TRY(service.delete_subnet(TRY(writer_of(request)), request.parameter("id")));
    return Reply::no_content();
}

}  // namespace

void add_subnets(Router& router, NetworkService& service) {
    const auto with = [&service](auto function) {
        return neutron([&service, function](Request& r) { return function(r, service); });
    };
    router.get("/v2.0/subnets", with(list));
    router.post("/v2.0/subnets", with(create));
    router.get("/v2.0/subnets/{id}", with(show));
    router.put("/v2.0/subnets/{id}", with(update));
    router.del("/v2.0/subnets/{id}", with(remove));
}

}  // namespace kumoi::api
