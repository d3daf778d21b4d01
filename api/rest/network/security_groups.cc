// /v2.0/security-groups and /v2.0/security-group-rules
#include "api/http/headers.h"
#include "api/rest/network/attributes.h"
#include "api/rest/network/collection.h"
#include "api/rest/network/network_routes.h"

namespace kumoi::api {
namespace {

using compute::NetworkService;
using compute::RequestContext;
using compute::SecurityGroup;
using compute::SecurityGroupRule;

const Collection kGroups = {
    "security_group",
    "security_groups",
    {"id", "name", "description", "tenant_id", "project_id", "tags", "created_at", "updated_at",
     "revision_number", "stateful", "shared", "security_group_rules"}};

const Collection kRules = {
    "security_group_rule",
    "security_group_rules",
    {"id", "tenant_id", "project_id", "security_group_id", "direction", "ethertype", "protocol",
     "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id",
     "remote_address_group_id", "normalized_cidr", "description", "created_at", "updated_at",
     "revision_number", "tags", "belongs_to_default_sg"}};

Json rule_view(const SecurityGroupRule& rule) {
    return Json::object({{"id", rule.id},
                         {"tenant_id", rule.project_id},
                         {"project_id", rule.project_id},
                         {"security_group_id", rule.security_group_id},
                         {"direction", rule.ingress ? "ingress" : "egress"},
                         {"ethertype", rule.ip_version == 4 ? "IPv4" : "IPv6"},
                         {"protocol", rule.protocol},
                         {"port_range_min", rule.port_min},
                         {"port_range_max", rule.port_max},
                         {"remote_ip_prefix", rule.remote_prefix},
                         {"remote_group_id", rule.remote_group_id},
                         {"remote_address_group_id", Json()},
                         {"normalized_cidr", rule.remote_prefix},
                         {"description", rule.description},
                         {"tags", Json::array()},
                         {"created_at", iso8601(rule.created_ns)},
                         {"updated_at", iso8601(rule.created_ns)},
                         {"revision_number", 0}});
}

Json group_view(const SecurityGroup& group) {
    Json view = base_view(group);
    Json::Array rules;
    for (const SecurityGroupRule& rule : group.rules) {
        rules.push_back(rule_view(rule));
    }
    view.set("stateful", group.stateful);
    view.set("shared", false);
    view.set("security_group_rules", Json(std::move(rules)));
    return view;
}

Result<Reply> create_groups(Request& request, NetworkService& service) {
    const RequestContext context = TRY(writer_of(request));
    const CreateBodies bodies = TRY(create_bodies(kGroups, request));
    std::vector<SecurityGroup> requests;
    for (const Json& item : bodies.items) {
        Attributes attributes(item, true);
        SecurityGroup group;
        group.project_id = TRY(attributes.project(auth_of(request)));
        group.name = TRY(attributes.required("name"));
        group.description = TRY(attributes.text("description")).value_or("");
        TRY(attributes.fixed("stateful", true));
        TRY(attributes.finish());
        requests.push_back(std::move(group));
    }
    std::vector<Json> views;
    for (const SecurityGroup& group : TRY(service.create_security_groups(context, requests))) {
        views.push_back(group_view(group));
    }
    return create_reply(kGroups, bodies.bulk, std::move(views));
}

Result<Reply> list_groups(Request& request, NetworkService& service) {
    std::vector<Json> views;
    for (const SecurityGroup& group : TRY(service.list_security_groups(
             TRY(reader_of(request)), {.ids = filter_values(request, "id")}))) {
        views.push_back(group_view(group));
    }
    return list_reply(kGroups, request, std::move(views));
}

Result<Reply> show_group(Request& request, NetworkService& service) {
    const std::string& id = request.parameter("id");
    const auto groups = TRY(service.list_security_groups(TRY(reader_of(request)), {.ids = {id}}));
    if (groups.empty()) {
        return compute::network_errors::security_group_not_found(id);
    }
    return show_reply(kGroups, request, group_view(groups[0]));
}

Result<Reply> update_group(Request& request, NetworkService& service) {
    const RequestContext context = TRY(writer_of(request));
    const Json body = TRY(update_body(kGroups, request));
    Attributes attributes(body, false);
    const auto name = TRY(attributes.text("name"));
    const auto description = TRY(attributes.text("description"));
    TRY(attributes.fixed("stateful", true));
    TRY(attributes.finish());
    const SecurityGroup group =
        TRY(service.update_security_group(context, request.parameter("id"), name, description));
    return show_reply(kGroups, request, group_view(group));
}

Result<Reply> delete_group(Request& request, NetworkService& service) {
    TRY(service.delete_security_group(TRY(writer_of(request)), request.parameter("id")));
    return Reply::no_content();
}

Result<int> parse_ethertype(Attributes& attributes) {
    const std::string ethertype =
        lower_case(TRY(attributes.text_or_null("ethertype")).value_or("IPv4"));
    if (ethertype != "ipv4" && ethertype != "ipv6") {
        return Error::invalid(
                   "Security group rule for ethertype '{}' not supported. Allowed values are IPv4 "
                   "and IPv6.",
                   ethertype)
            .with_fault("SecurityGroupRuleInvalidEtherType");
    }
    return ethertype == "ipv4" ? 4 : 6;
}

// Protocols come as names of any case or as numbers; any and null mean all.
Result<std::optional<std::string>> parse_protocol(Attributes& attributes) {
    const Json* protocol = attributes.take("protocol");
    if (protocol == nullptr || protocol->is_null()) {
        return std::optional<std::string>();
    }
    const std::string text = lower_case(
        protocol->is_integer() ? protocol->dump() : TRY(attributes.text("protocol")).value_or(""));
    return text == "any" || text.empty() ? std::optional<std::string>() : std::optional(text);
}

Result<SecurityGroupRule> parse_rule(const Json& item, const AuthContext& who) {
    Attributes attributes(item, true);
    SecurityGroupRule rule;
    TRY(attributes.project(who));  // checked only: a rule belongs to its group's project
    rule.security_group_id = TRY(attributes.required("security_group_id"));
    const std::string direction = TRY(attributes.required("direction"));
    if (direction != "ingress" && direction != "egress") {
        return attributes.invalid("direction",
                                  fmt::format("'{}' is not in ['ingress', 'egress']", direction));
    }
    rule.ingress = direction == "ingress";
    rule.ip_version = TRY(parse_ethertype(attributes));
    rule.protocol = TRY(parse_protocol(attributes));
    rule.port_min = TRY(attributes.integer_or_null("port_range_min", {}));
    rule.port_max = TRY(attributes.integer_or_null("port_range_max", {}));
    rule.remote_prefix = TRY(attributes.text_or_null("remote_ip_prefix"));
    rule.remote_group_id = TRY(attributes.text_or_null("remote_group_id"));
    TRY(attributes.fixed("remote_address_group_id", Json()));
    rule.description = TRY(attributes.text_or_null("description")).value_or("");
    TRY(attributes.finish());
    return rule;
}

Result<Reply> create_rules(Request& request, NetworkService& service) {
    const RequestContext context = TRY(writer_of(request));
    const CreateBodies bodies = TRY(create_bodies(kRules, request));
    std::vector<SecurityGroupRule> requests;
    for (const Json& item : bodies.items) {
        requests.push_back(TRY(parse_rule(item, auth_of(request))));
    }
    std::vector<Json> views;
    for (const SecurityGroupRule& rule : TRY(service.create_rules(context, requests))) {
        views.push_back(rule_view(rule));
    }
    return create_reply(kRules, bodies.bulk, std::move(views));
}

Result<std::vector<Json>> all_rules(Request& request, NetworkService& service) {
    std::vector<Json> views;
    for (const SecurityGroup& group : TRY(service.list_security_groups(
             TRY(reader_of(request)),
             {.security_group_ids = filter_values(request, "security_group_id")}))) {
        for (const SecurityGroupRule& rule : group.rules) {
            views.push_back(rule_view(rule));
        }
    }
    return views;
}

Result<Reply> list_rules(Request& request, NetworkService& service) {
    return list_reply(kRules, request, TRY(all_rules(request, service)));
}

Result<Reply> show_rule(Request& request, NetworkService& service) {
    const std::string& id = request.parameter("id");
    for (Json& view : TRY(all_rules(request, service))) {
        if (view.string_or("id") == id) {
            return show_reply(kRules, request, std::move(view));
        }
    }
    return Error::not_found("Security group rule {} does not exist", id)
        .with_fault("SecurityGroupRuleNotFound");
}

Result<Reply> delete_rule(Request& request, NetworkService& service) {
    TRY(service.delete_rule(TRY(writer_of(request)), request.parameter("id")));
    return Reply::no_content();
}

}  // namespace

void add_security_groups(Router& router, NetworkService& service) {
    const auto with = [&service](auto function) {
        return neutron([&service, function](Request& r) { return function(r, service); });
    };
    router.get("/v2.0/security-groups", with(list_groups));
    router.post("/v2.0/security-groups", with(create_groups));
    router.get("/v2.0/security-groups/{id}", with(show_group));
    router.put("/v2.0/security-groups/{id}", with(update_group));
    router.del("/v2.0/security-groups/{id}", with(delete_group));
    router.get("/v2.0/security-group-rules", with(list_rules));
    router.post("/v2.0/security-group-rules", with(create_rules));
    router.get("/v2.0/security-group-rules/{id}", with(show_rule));
    router.del("/v2.0/security-group-rules/{id}", with(delete_rule));
}

}  // namespace kumoi::api
