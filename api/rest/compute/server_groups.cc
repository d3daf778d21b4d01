// Server groups: list, show, create, delete. Below 2.64 "policies" is a list of one and metadata is
// empty; from 2.64 on there is "policy" and "rules".
#include <algorithm>
#include <array>

#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"
#include "api/rest/schema.h"
#include "base/uuid.h"

namespace kumoi::api {
namespace {

using compute::ServerGroup;

Json group_view(const Call& call, const ServerGroup& group) {
    Json view = Json::object({{"id", group.uuid}, {"name", group.name}});
    if (call.at_least(64)) {
        view.set("policy", group.policy);
        view.set("rules", group.servers_per_host_max > 0
                              ? Json::object({{"max_server_per_host", group.servers_per_host_max}})
                              : Json::object());
    } else {
        view.set("policies", Json(Json::Array{Json(group.policy)}));
        view.set("metadata", Json::object());
    }
    view.set("members", Json::array_of(group.members));
    if (call.at_least(13)) {
        view.set("project_id", group.project_id);
        view.set("user_id", group.user_id);
    }
    return view;
}

Result<ServerGroup> find_group(const Call& call, std::string_view rule) {
    const std::string& id = call.parameter("group_id");
    const auto group = call.conductor().server_groups().get(id);
    if (!group.ok() || (group->project_id != call.who.project_id && !call.who.is_admin)) {
        return Error::not_found("Instance group {} could not be found.", id)
            .with_fault("InstanceGroupNotFound");
    }
    TRY(call.authorize(rule, {group->project_id, group->user_id}));
    return group;
}

Result<void> check_policy(const Call& call, const Json& value) {
    constexpr std::array<std::string_view, 4> known = {"affinity", "anti-affinity", "soft-affinity",
                                                       "soft-anti-affinity"};
    const size_t count = call.at_least(15) ? 4 : 2;  // the soft ones came with 2.15
    const bool legal = value.is_string() && std::find(known.begin(), known.begin() + count,
                                                      value.as_string()) != known.begin() + count;
    if (!legal) {
        return invalid_input(call.at_least(64) ? "policy" : "policies", value,
                             call.at_least(15) ? "It is not one of ['anti-affinity', 'affinity', "
                                                 "'soft-anti-affinity', 'soft-affinity']"
                                               : "It is not one of ['anti-affinity', 'affinity']");
    }
    return {};
}

Result<void> parse_policy(const Call& call, Fields& fields, ServerGroup& group) {
    const char* key = call.at_least(64) ? "policy" : "policies";
    TRY(fields.require(key));
    const Json* value = fields.take(key);
    if (!call.at_least(64)) {
        if (!value->is_array() || value->size() != 1) {
            return invalid_input(key, *value, "It must be a list of one policy.");
        }
        value = &value->as_array().front();
    }
    TRY(check_policy(call, *value));
    group.policy = value->as_string();
    const Json* rules = call.at_least(64) ? fields.take("rules") : nullptr;
    if (rules == nullptr) {
        return {};
    }
    Fields rule = TRY(Fields::of(*rules, "rules"));
    const auto per_host = TRY(rule.optional_integer("max_server_per_host", {1, INT32_MAX}));
    TRY(rule.finish());
    if (per_host && group.policy != "anti-affinity") {
        return Error::invalid("Only anti-affinity policy supports rules.");
    }
    group.servers_per_host_max = per_host.value_or(0);
    return {};
}

Result<Reply> list_groups(Call& call) {
    TRY(call.authorize("os_compute_api:os-server-groups:index"));
    const bool all = call.request.query.has("all_projects") && call.who.is_admin;
    const Page page = TRY(page_of(call.request, call.services.osapi_max_limit));
    const int64_t offset = TRY(query_integer(call.request, "offset")).value_or(0);
    const auto groups =
        call.conductor().server_groups().list(all ? std::string() : call.who.project_id);
    Json views = Json::array();
    for (size_t index = static_cast<size_t>(offset);
         index < groups.size() && views.size() < page.limit; ++index) {
        views.push_back(group_view(call, groups[index]));
    }
    return Reply::json(Json::object({{"server_groups", std::move(views)}}));
}

Result<Reply> show_group(Call& call) {
    const ServerGroup group = TRY(find_group(call, "os_compute_api:os-server-groups:show"));
    return Reply::json(Json::object({{"server_group", group_view(call, group)}}));
}

Result<Reply> create_group(Call& call) {
    TRY(call.authorize("os_compute_api:os-server-groups:create"));
    const Json body = TRY(call.body());
    Fields fields = TRY(Fields::root(body, "server_group"));
    ServerGroup group;
    group.name = TRY(fields.name("name"));
    TRY(parse_policy(call, fields, group));
    TRY(fields.finish());
    group.uuid = Uuid::generate(call.services.random).text();
    group.project_id = call.who.project_id;
    group.user_id = call.who.user_id;
    const int64_t count_max = call.conductor().quotas().limit(call.who.project_id, "server_groups");
    const ServerGroup stored = TRY(call.conductor().server_groups().create(group, count_max));
    return Reply::json(Json::object({{"server_group", group_view(call, stored)}}));
}

Result<Reply> delete_group(Call& call) {
    const ServerGroup group = TRY(find_group(call, "os_compute_api:os-server-groups:delete"));
    TRY(call.conductor().server_groups().remove(group.uuid));
    return Reply::no_content();
}

}  // namespace

void add_server_group_routes(ComputeRoutes& routes) {
    routes.add("GET", "/os-server-groups", list_groups);
    routes.add("POST", "/os-server-groups", create_group);
    routes.add("GET", "/os-server-groups/{group_id}", show_group);
    routes.add("DELETE", "/os-server-groups/{group_id}", delete_group);
}

}  // namespace kumoi::api
