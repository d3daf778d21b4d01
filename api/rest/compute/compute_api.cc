#include "api/rest/compute/compute_api.h"

#include "api/rest/compute/policies.h"
#include "api/rest/compute/resources.h"
#include "api/rest/fault.h"

namespace kumoi::api {
namespace {

Error instance_not_found(const std::string& id) {
    return Error::not_found("Instance {} could not be found.", id).with_fault("InstanceNotFound");
}

}  // namespace

compute::RequestContext Call::context() const {
    compute::RequestContext context = who.request_context();
    context.request_id = request.request_id;
    return context;
}

Result<Json> Call::body() const {
    auto body = request.json();
    if (!body.ok()) {
        return Error::invalid("Malformed request body: {}", body.error().message);
    }
    if (!body->is_object()) {
        return Error::invalid("Malformed request body: a JSON object is expected, this is {}",
                              body->type_name());
    }
    return body;
}

Result<compute::InstancePtr> Call::server(std::string_view rule) const {
    const std::string& id = parameter("server_id");
    compute::InstancePtr found = conductor().instances().find(id);
    if (found == nullptr || (found->instance.project_id != who.project_id && !who.is_admin)) {
        return instance_not_found(id);
    }
    TRY(authorize(rule, {found->instance.project_id, found->instance.user_id}));
    return found;
}

std::string Call::versioned_url() const {
    return request.base_url() + "/v2.1";
}

Json Call::links(std::string_view collection, std::string_view id) const {
    const std::string base = request.base_url();
    return Json(Json::Array{
        Json::object(
            {{"rel", "self"}, {"href", fmt::format("{}/v2.1/{}/{}", base, collection, id)}}),
        Json::object(
            {{"rel", "bookmark"}, {"href", fmt::format("{}/{}/{}", base, collection, id)}}),
    });
}

Json Call::bookmark(std::string_view collection, std::string_view id) const {
    return Json(Json::Array{
        Json::object({{"rel", "bookmark"},
                      {"href", fmt::format("{}/{}/{}", request.base_url(), collection, id)}})});
}

void ComputeRoutes::add(std::string_view method, std::string_view path, Action action,
                        VersionRange range) {
    const Handler handler =
        answer(ApiShape::Nova, [this_copy = *this, action, range](Request& request) {
            return this_copy.run(request, action, range);
        });
    router_.add(method, fmt::format("/v2.1{}", path), handler);
    router_.add(method, fmt::format("/v2.1/{{project_id}}{}", path), handler);
}

Result<Reply> ComputeRoutes::run(Request& request, Action action, VersionRange range) const {
    const AuthContext& who = auth_of(request);
    for (const auto& [name, value] : request.parameters) {
        if (name == "project_id" && value != who.project_id) {
            return Error::invalid(
                "Malformed request URL: URL's project_id '{}' doesn't match Context's project_id "
                "'{}'",
                value, who.project_id);
        }
    }
    const Microversion version = microversion_of(request);
    if (version.minor < range.min || version.minor > range.max) {
        return Error::not_found("API version '{}' is not supported on this method.", version.text())
            .with_hint(fmt::format("It exists from 2.{} to 2.{}.", range.min, range.max))
            .with_fault("VersionNotFoundForAPIMethod");
    }
    Call call{request, who, version, services_, policy_};
    return action(call);
}

Router make_compute_router(const ComputeServices& services) {
    Router router;
    router.set_error_renderer(fault_renderer(ApiShape::Nova));
    router.use(negotiate_microversion());
    router.use(authenticate(services.tokens, {services.identity_uri, {"/", "/v2.1"}, true}));
    ComputeRoutes routes(router, services, compute_policy());
    add_version_routes(router);
    add_server_routes(routes);
    add_server_list_routes(routes);
    add_server_action_routes(routes);
    add_migration_routes(routes);
    add_server_metadata_routes(routes);
    add_server_tag_routes(routes);
    add_server_address_routes(routes);
    add_instance_action_routes(routes);
    add_server_extra_routes(routes);
    add_server_password_routes(routes);
    add_flavor_routes(routes);
    add_flavor_extra_routes(routes);
    add_keypair_routes(routes);
    add_availability_zone_routes(routes);
    add_hypervisor_routes(routes);
    add_service_routes(routes);
    add_remote_console_routes(routes);
    add_limit_routes(routes);
    add_quota_set_routes(routes);
    add_server_group_routes(routes);
    add_aggregate_routes(routes);
    add_extension_routes(routes);
    return router;
}

}  // namespace kumoi::api
