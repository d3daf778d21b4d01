#include "api/rest/identity/identity_api.h"

#include <algorithm>

#include "api/rest/identity/identity_routes.h"

namespace kumoi::api {

Result<AuthContext> IdentityTokenValidator::validate(std::string_view token) {
    const auto found = TRY(identity_.tokens().validate(token));
    AuthContext context{.user_id = found->user.id, .user_name = found->user.name};
    context.domain_id = compute::identity::kDefaultDomainId;
    if (found->project) {
        context.project_id = found->project->id;
        context.project_name = found->project->name;
    }
    context.roles.reserve(found->roles.size());
    for (const auto& role : found->roles) {
        context.roles.push_back(lower_case(role.name));
        context.is_admin = context.is_admin || context.roles.back() == "admin";
    }
    context.system_scope = found->system_scope;
    context.token_id = token;
    return context;
}

Router make_identity_router(compute::identity::Identity& identity, TokenValidator& validator,
                            const std::string& identity_uri) {
    Router router;
    router.set_error_renderer(fault_renderer(ApiShape::Keystone));
    // Login and revocation pass here without (valid) token; tokens.cc checks what it needs.
    router.use(authenticate(
        validator, {.identity_uri = identity_uri, .open_routes = {"/", "/v3", "/v3/auth/tokens"}}));
    identity::add_discovery_routes(router);
    identity::add_token_routes(router, identity);
    identity::add_project_routes(router, identity);
    identity::add_user_routes(router, identity);
    identity::add_role_routes(router, identity);
    identity::add_grant_routes(router, identity);
    identity::add_assignment_routes(router, identity);
    identity::add_app_credential_routes(router, identity);
    identity::add_catalog_routes(router, identity);
    return router;
}

namespace identity {

const Policy& policy() {
    static const Policy kPolicy({
        {"identity:validate_token", Check::Admin},
        {"identity:revoke_token", Check::Admin},
        {"identity:list_projects", Check::ReaderOfSystemOrAdmin},
        {"identity:get_project", Check::ProjectReaderOrAdmin},
        {"identity:create_project", Check::Admin},
        {"identity:update_project", Check::Admin},
        {"identity:delete_project", Check::Admin},
        {"identity:list_user_projects", Check::UserOrAdmin},
        {"identity:list_users", Check::ReaderOfSystemOrAdmin},
        {"identity:get_user", Check::UserOrAdmin},
        {"identity:create_user", Check::Admin},
        {"identity:update_user", Check::Admin},
        {"identity:delete_user", Check::Admin},
        {"identity:list_roles", Check::ReaderOfSystemOrAdmin},
        {"identity:get_role", Check::ReaderOfSystemOrAdmin},
        {"identity:create_role", Check::Admin},
        {"identity:update_role", Check::Admin},
        {"identity:delete_role", Check::Admin},
        {"identity:list_role_inference_rules", Check::ReaderOfSystemOrAdmin},
        {"identity:list_implied_roles", Check::ReaderOfSystemOrAdmin},
        {"identity:create_implied_role", Check::Admin},
        {"identity:delete_implied_role", Check::Admin},
        {"identity:list_grants", Check::ReaderOfSystemOrAdmin},
        {"identity:check_grant", Check::ReaderOfSystemOrAdmin},
        {"identity:create_grant", Check::Admin},
        {"identity:revoke_grant", Check::Admin},
        {"identity:list_role_assignments", Check::ReaderOfSystemOrAdmin},
        {"identity:list_application_credentials", Check::UserOrAdmin},
        {"identity:get_application_credential", Check::UserOrAdmin},
        {"identity:delete_application_credential", Check::UserOrAdmin},
        {"identity:list_domains", Check::ReaderOfSystemOrAdmin},
        {"identity:get_domain", Check::Any},
        {"identity:list_services", Check::ReaderOfSystemOrAdmin},
        {"identity:list_endpoints", Check::ReaderOfSystemOrAdmin},
        {"identity:list_regions", Check::Any},
    });
    return kPolicy;
}

Result<void> authorize(const Request& request, std::string_view rule, const PolicyTarget& target) {
    return policy().authorize(auth_of(request), rule, target);
}

void route(Router& router, std::string_view method, std::string_view pattern,
           ResultHandler handler) {
    router.add(method, pattern, answer(ApiShape::Keystone, std::move(handler)));
}

Result<compute::identity::TokenPtr> token_of(Identity& identity, const Request& request) {
    return identity.tokens().validate(request.headers.first_or("X-Auth-Token"));
}

Result<std::string> read_name(const JsonView& object) {
    const std::string name = TRY(object.string("name"));
    const bool blank = std::all_of(name.begin(), name.end(), [](char c) { return c == ' '; });
    if (blank || name.size() > 255) {
        return Error::invalid("{}.name: a name has 1 to 255 characters and is not blank.",
                              object.path());
    }
    return name;
}

Result<void> check_domain_id(const JsonView& object) {
    if (!object.has("domain_id")) {
        return {};
    }
    const std::string id = TRY(object.string("domain_id"));
    if (id != compute::identity::kDefaultDomainId) {
        return Error::not_found("Could not find domain: {}.", id)
            .with_hint("There is one domain here, \"default\".");
    }
    return {};
}

Result<void> check_domain(const JsonView& domain) {
    const bool by_id = domain.has("id");
    const std::string value = TRY(domain.string(by_id ? "id" : "name"));
    if (!equal_ignoring_case(value, compute::identity::kDefaultDomainId)) {
        return Error::not_found("Could not find domain: {}.", value)
            .with_hint("There is one domain here, \"default\".");
    }
    return {};
}

Result<void> read_optional_text(const JsonView& object, std::string_view key,
                                std::optional<std::string>& value) {
    if (!object.present(key)) {
        return {};
    }
    value = object.has(key) ? std::optional(TRY(object.string(key))) : std::nullopt;
    return {};
}

}  // namespace identity
}  // namespace kumoi::api
