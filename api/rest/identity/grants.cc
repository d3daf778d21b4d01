// Grants: a role held by a user on a project, the domain, or the system. The same four verbs under
// three path prefixes.
#include <algorithm>

#include "api/rest/identity/identity_routes.h"
#include "api/rest/identity/identity_views.h"

namespace kumoi::api::identity {
namespace {

using compute::identity::Assignment;
using compute::identity::Target;
using compute::identity::TargetKind;

using TargetOf = Target (*)(const Request& request);

Target project_of(const Request& request) {
    return {TargetKind::Project, request.parameter("project_id")};
}
Target domain_of(const Request& request) {
    return {TargetKind::Domain, request.parameter("domain_id")};
}
Target system_of(const Request&) {
    return {TargetKind::System, "all"};
}

Assignment assignment_of(const Request& request, TargetOf target_of) {
    return {target_of(request), request.parameter("user_id"), request.parameter("role_id")};
}

Result<Reply> list(Identity& identity, const Request& request, const Target& target) {
    TRY(authorize(request, "identity:list_grants"));
    const auto assignments = TRY(identity.grants().list(
        {.user_id = request.parameter("user_id"), .role_id = {}, .target = target}));
    Json::Array roles;
    for (const Assignment& assignment : assignments) {
        roles.push_back(
            role_view(v3_base(request), TRY(identity.store().role(assignment.role_id))));
    }
    return collection(request, "roles", std::move(roles));
}

Result<Reply> check(Identity& identity, const Request& request, const Assignment& wanted) {
    TRY(authorize(request, "identity:check_grant"));
    const auto found = TRY(identity.grants().list(
        {.user_id = wanted.user_id, .role_id = wanted.role_id, .target = wanted.target}));
    if (found.empty()) {
        return Error::not_found("Could not find role assignment with role: {}, user: {}.",
                                wanted.role_id, wanted.user_id);
    }
    return Reply::no_content();
}

void add_target_routes(Router& router, Identity& identity, const std::string& prefix,
                       TargetOf target_of) {
    const std::string roles = prefix + "/users/{user_id}/roles";
    const std::string role = roles + "/{role_id}";
    route(router, "GET", roles, [&identity, target_of](Request& request) {
        return list(identity, request, target_of(request));
    });
    route(router, "GET", role, [&identity, target_of](Request& request) {
        return check(identity, request, assignment_of(request, target_of));
    });
    route(router, "PUT", role, [&identity, target_of](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:create_grant"));
        TRY(identity.grants().grant(assignment_of(request, target_of)));
        return Reply::no_content();
    });
    route(router, "DELETE", role, [&identity, target_of](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:revoke_grant"));
        TRY(identity.grants().revoke(assignment_of(request, target_of)));
        return Reply::no_content();
    });
}

}  // namespace

void add_grant_routes(Router& router, Identity& identity) {
    add_target_routes(router, identity, "/v3/projects/{project_id}", project_of);
    add_target_routes(router, identity, "/v3/domains/{domain_id}", domain_of);
    add_target_routes(router, identity, "/v3/system", system_of);
}

}  // namespace kumoi::api::identity
