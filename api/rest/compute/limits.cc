// GET /limits: what the caller's project may use and uses; administrators may ask for another one.
#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"

namespace kumoi::api {
namespace {

Result<Reply> show_limits(Call& call) {
    TRY(call.authorize("os_compute_api:limits"));
    std::string project = call.who.project_id;
    if (const auto other = call.request.query.first("tenant_id"); other && *other != project) {
        TRY(call.authorize("os_compute_api:limits:other_project"));
        project = *other;
    }
    const auto limits = call.conductor().quotas().limits(project);
    const compute::ProjectUsage usage = call.conductor().instances().usage(project);
    Json absolute =
        Json::object({{"maxTotalInstances", limits.at("instances")},
                      {"maxTotalCores", limits.at("cores")},
                      {"maxTotalRAMSize", limits.at("ram")},
                      {"maxServerMeta", limits.at("metadata_items")},
                      {"maxTotalKeypairs", limits.at("key_pairs")},
                      {"maxServerGroups", limits.at("server_groups")},
                      {"maxServerGroupMembers", limits.at("server_group_members")},
                      {"totalInstancesUsed", usage.instances},
                      {"totalCoresUsed", usage.cores},
                      {"totalRAMUsed", usage.ram_mb},
                      {"totalServerGroupsUsed", call.conductor().server_groups().count(project)}});
    if (!call.at_least(36)) {  // network limits are Neutron's
        absolute.set("maxSecurityGroups", limits.at("security_groups"));
        absolute.set("maxSecurityGroupRules", limits.at("security_group_rules"));
        absolute.set("maxTotalFloatingIps", limits.at("floating_ips"));
        absolute.set("totalSecurityGroupsUsed", 0);
        absolute.set("totalFloatingIpsUsed", 0);
    }
    if (!call.at_least(39)) {
        absolute.set("maxImageMeta", limits.at("metadata_items"));
    }
    if (!call.at_least(57)) {
        absolute.set("maxPersonality", limits.at("injected_files"));
        absolute.set("maxPersonalitySize", limits.at("injected_file_content_bytes"));
    }
    return Reply::json(Json::object(
        {{"limits", Json::object({{"rate", Json::array()}, {"absolute", std::move(absolute)}})}}));
}

}  // namespace

void add_limit_routes(ComputeRoutes& routes) {
    routes.add("GET", "/limits", show_limits);
}

}  // namespace kumoi::api
