// /v2.0/quotas, /v2.0/agents, /v2.0/availability_zones
#include "api/rest/network/attributes.h"
#include "api/rest/network/collection.h"
#include "api/rest/network/network_routes.h"

namespace kumoi::api {
namespace {

using compute::NetworkService;
using compute::RequestContext;

const Collection kAgents = {
    "agent",
    "agents",
    {"id", "agent_type", "binary", "host", "topic", "alive", "admin_state_up", "created_at",
     "started_at", "heartbeat_timestamp", "availability_zone", "description", "configurations",
     "resources_synced"}};

const Collection kZones = {
    "availability_zone", "availability_zones", {"name", "resource", "state"}};

// Another project's quota is for admins; for all others it does not exist.
Result<std::string> quota_project(const Request& request) {
    const RequestContext context = TRY(reader_of(request));
    const std::string& project_id = request.parameter("project_id");
    if (!context.is_admin && project_id != context.project_id) {
        return compute::network_errors::not_allowed("Reading the quota of another project");
    }
    return project_id;
}

Result<Reply> show_quota(Request& request, NetworkService& service) {
    Json quota = Json::object();
    for (const auto& [resource, value] : TRY(service.quotas(TRY(quota_project(request))))) {
        quota.set(resource, value.limit);
    }
    return Reply::json(Json::object({{"quota", std::move(quota)}}));
}

Result<Reply> show_quota_details(Request& request, NetworkService& service) {
    Json quota = Json::object();
    for (const auto& [resource, value] : TRY(service.quotas(TRY(quota_project(request))))) {
        quota.set(resource,
                  Json::object({{"limit", value.limit}, {"used", value.used}, {"reserved", 0}}));
    }
    return Reply::json(Json::object({{"quota", std::move(quota)}}));
}

Result<Reply> show_default_quota(Request& request, NetworkService&) {
    TRY(quota_project(request));
    Json quota = Json::object();
    for (const auto& [resource, limit] : NetworkService::default_quotas()) {
        quota.set(resource, limit);
    }
    return Reply::json(Json::object({{"quota", std::move(quota)}}));
}

Result<Reply> update_quota(Request& request, NetworkService& service) {
    if (!TRY(writer_of(request)).is_admin) {
        return compute::network_errors::not_allowed("Changing a quota");
    }
    const Json body = TRY(update_body({"quota", "quotas", {}}, request));
    Attributes attributes(body, false);
    std::map<std::string, int64_t> limits;
    for (const auto& [resource, limit] : NetworkService::default_quotas()) {
        if (const auto value = TRY(attributes.integer(resource, {-1, INT32_MAX}))) {
            limits[resource] = *value;
        }
    }
    for (const char* ignored : {"tenant_id", "project_id", "force", "check_limit"}) {
        (void)attributes.take(ignored);
    }
    TRY(attributes.finish());
    TRY(service.set_quotas(request.parameter("project_id"), limits));
    return show_quota(request, service);
}

Result<Reply> delete_quota(Request& request, NetworkService& service) {
    if (!TRY(writer_of(request)).is_admin) {
        return compute::network_errors::not_allowed("Changing a quota");
    }
    TRY(service.reset_quotas(request.parameter("project_id")));
    return Reply::no_content();
}

Json agent_view(const NetworkAgent& agent) {
    return Json::object({{"id", agent.id},
                         {"agent_type", "kumoi node"},
                         {"binary", "kumoi-compute"},
                         {"host", agent.host},
                         {"topic", "N/A"},
                         {"alive", agent.alive},
                         {"admin_state_up", true},
                         {"created_at", iso8601(agent.created_ns)},
                         {"started_at", iso8601(agent.created_ns)},
                         {"heartbeat_timestamp", iso8601(agent.heartbeat_ns)},
                         {"availability_zone", "nova"},
                         {"description", Json()},
                         {"resources_synced", Json()},
                         {"configurations", Json::object()}});
}

using Agents = std::function<std::vector<NetworkAgent>()>;

Result<std::vector<Json>> agent_views(const Request& request, const Agents& agents) {
    if (!TRY(reader_of(request)).is_admin) {
        return compute::network_errors::not_allowed("Reading the agents");
    }
    std::vector<Json> views;
    for (const NetworkAgent& agent : agents ? agents() : std::vector<NetworkAgent>()) {
        views.push_back(agent_view(agent));
    }
    return views;
}

Result<Reply> list_zones(Request& request) {
    TRY(reader_of(request));
    return list_reply(
        kZones, request,
        {Json::object({{"name", "nova"}, {"resource", "network"}, {"state", "available"}})});
}

}  // namespace

void add_network_quotas(Router& router, NetworkService& service) {
    const auto with = [&service](auto function) {
        return neutron([&service, function](Request& r) { return function(r, service); });
    };
    router.get("/v2.0/quotas/{project_id}", with(show_quota));
    router.get("/v2.0/quotas/{project_id}/default", with(show_default_quota));
    router.get("/v2.0/quotas/{project_id}/details", with(show_quota_details));
    router.get("/v2.0/quotas/{project_id}/details.json", with(show_quota_details));
    router.put("/v2.0/quotas/{project_id}", with(update_quota));
    router.del("/v2.0/quotas/{project_id}", with(delete_quota));
}

void add_network_agents(Router& router, Agents agents) {
    router.get("/v2.0/agents", neutron([agents](Request& request) -> Result<Reply> {
                   return list_reply(kAgents, request, TRY(agent_views(request, agents)));
               }));
    router.get(
        "/v2.0/agents/{id}", neutron([agents](Request& request) -> Result<Reply> {
            const std::string& id = request.parameter("id");
            for (Json& view : TRY(agent_views(request, agents))) {
                if (view.string_or("id") == id) {
                    return show_reply(kAgents, request, std::move(view));
                }
            }
            return Error::not_found("Agent {} could not be found.", id).with_fault("AgentNotFound");
        }));
    router.get("/v2.0/availability_zones", neutron(list_zones));
}

}  // namespace kumoi::api
