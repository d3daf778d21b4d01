// The small sub-resources of a server: diagnostics, security groups, volume attachments (none yet),
// the encrypted password (never set here), topology.
#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"

namespace kumoi::api {
namespace {

Result<Reply> show_diagnostics(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-server-diagnostics"));
    return Reply::json(TRY(call.conductor().diagnostics(call.context(), server->instance.uuid)));
}

Result<Reply> list_security_groups(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-security-groups:list"));
    // Names are what Nova knows; ids and rules are the network service's.
    Json groups = Json::array();
    for (const std::string& name : server->instance.security_groups) {
        groups.push_back(Json::object({{"id", name},
                                       {"name", name},
                                       {"description", ""},
                                       {"tenant_id", server->instance.project_id},
                                       {"rules", Json::array()}}));
    }
    return Reply::json(Json::object({{"security_groups", std::move(groups)}}));
}

Result<Reply> list_volumes(Call& call) {
    TRY(call.server("os_compute_api:os-volumes-attachments:index"));
    return Reply::json(Json::object({{"volumeAttachments", Json::array()}}));
}

Result<Reply> attach_volume(Call& call) {
    TRY(call.server("os_compute_api:os-volumes-attachments:create"));
    return Error::unsupported("Volumes cannot be attached yet: there is no block storage service.");
}

Result<Reply> show_volume(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-volumes-attachments:show"));
    return Error::not_found("Instance {} is not attached to volume {}.", server->instance.uuid,
                            call.parameter("volume_id"));
}

Result<Reply> detach_volume(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-volumes-attachments:delete"));
    return Error::not_found("Instance {} is not attached to volume {}.", server->instance.uuid,
                            call.parameter("volume_id"));
}

Result<Reply> show_topology(Call& call) {
    const auto server = TRY(call.server("compute:server:topology:index"));
    // One virtual NUMA node that holds everything; host pins only for administrators.
    const compute::Flavor& flavor = server->instance.flavor;
    Json vcpus = Json::array();
    for (int64_t vcpu = 0; vcpu < flavor.vcpus; ++vcpu) {
        vcpus.push_back(vcpu);
    }
    Json node = Json::object({{"memory_mb", flavor.memory_mb},
                              {"siblings", Json::array()},
                              {"vcpu_set", std::move(vcpus)}});
    Json view = Json::object({{"nodes", Json(Json::Array{node})}, {"pagesize_kb", Json()}});
    if (call.allows("compute:server:topology:host:index")) {
        view["nodes"].as_array().front().set("cpu_pinning", Json::object());
        view["nodes"].as_array().front().set("host_node", Json());
    }
    return Reply::json(view);
}

}  // namespace

void add_server_extra_routes(ComputeRoutes& routes) {
    routes.add("GET", "/servers/{server_id}/diagnostics", show_diagnostics);
    routes.add("GET", "/servers/{server_id}/os-security-groups", list_security_groups);
    routes.add("GET", "/servers/{server_id}/os-volume_attachments", list_volumes);
    routes.add("POST", "/servers/{server_id}/os-volume_attachments", attach_volume);
    routes.add("GET", "/servers/{server_id}/os-volume_attachments/{volume_id}", show_volume);
    routes.add("DELETE", "/servers/{server_id}/os-volume_attachments/{volume_id}", detach_volume);
    routes.add("GET", "/servers/{server_id}/topology", show_topology, {78, 96});
}

}  // namespace kumoi::api
