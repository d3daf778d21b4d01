#include "api/rest/network/network_api.h"

#include "api/rest/network/network_routes.h"

namespace kumoi::api {
namespace {

Error refused(std::string_view role) {
    return Error::forbidden("The request is disallowed by policy: it needs role {} in a project",
                            role)
        .with_fault("PolicyNotAuthorized");
}

}  // namespace

Result<compute::RequestContext> reader_of(const Request& request) {
    const AuthContext& who = auth_of(request);
    if (!who.is_admin && (!who.can_read() || who.project_id.empty())) {
        return refused("reader");
    }
    return who.request_context();
}

Result<compute::RequestContext> writer_of(const Request& request) {
    const AuthContext& who = auth_of(request);
    if (!who.is_admin && (!who.can_write() || who.project_id.empty())) {
        return refused("member");
    }
    return who.request_context();
}

Handler neutron(ResultHandler handler) {
    return answer(ApiShape::Neutron, std::move(handler));
}

Json base_view(const compute::NetworkRecordBase& record) {
    return Json::object({{"id", record.id},
                         {"name", record.name},
                         {"description", record.description},
                         {"tenant_id", record.project_id},
                         {"project_id", record.project_id},
                         {"tags", Json::array_of(record.tags)},
                         {"created_at", iso8601(record.created_ns)},
                         {"updated_at", iso8601(record.updated_ns)},
                         {"revision_number", record.revision}});
}

Router make_network_router(compute::NetworkService& service, TokenValidator& validator,
                           NetworkApiOptions options) {
    Router router;
    router.set_error_renderer(fault_renderer(ApiShape::Neutron));
    router.use(
        authenticate(validator, {.identity_uri = options.identity_uri, .open_routes = {"/"}}));
    add_network_discovery(router);
    add_networks(router, service);
    add_subnets(router, service);
    add_ports(router, service);
    add_security_groups(router, service);
    add_network_tags(router, service);
    add_network_quotas(router, service);
    add_network_agents(router, std::move(options.agents));
    return router;
}

}  // namespace kumoi::api
