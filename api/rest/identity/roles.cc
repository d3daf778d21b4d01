// /v3/roles, what a role implies, and /v3/role_inferences.
#include <algorithm>
#include <array>

#include "api/rest/identity/identity_routes.h"
#include "api/rest/identity/identity_views.h"

namespace kumoi::api::identity {
namespace {

using compute::identity::Role;

// Policy speaks of these by name, so they stay as they are.
constexpr std::array<std::string_view, 5> kBuiltIn{"admin", "manager", "member", "reader",
                                                   "service"};

Result<void> refuse_built_in(Identity& identity, const std::string& id) {
    const Role role = TRY(identity.store().role(id));
    if (std::find(kBuiltIn.begin(), kBuiltIn.end(), role.name) != kBuiltIn.end()) {
        return Error::forbidden("Role {} is built in: it cannot be changed or deleted.", role.name)
            .with_fault("ResourceUpdateForbidden");
    }
    return {};
}

Reply role_reply(const Request& request, const Role& role, int status = 200) {
    return Reply::json(Json::object({{"role", role_view(v3_base(request), role)}}), status);
}

Result<Reply> create(Identity& identity, Request& request) {
    TRY(authorize(request, "identity:create_role"));
    const Json body = TRY(request.json());
    const JsonView object = TRY(JsonView(body).object("role"));
    Role role{.name = TRY(read_name(object))};
    if (object.has("domain_id")) {
        return Error::forbidden("Roles of a domain are not offered here.")
            .with_hint("Leave domain_id out.");
    }
    TRY(read_optional_text(object, "description", role.description));
    return role_reply(request, TRY(identity.store().create_role(std::move(role))), 201);
}

Result<Reply> update(Identity& identity, Request& request) {
    TRY(authorize(request, "identity:update_role"));
    const std::string& id = request.parameter("role_id");
    TRY(refuse_built_in(identity, id));
    const Json body = TRY(request.json());
    const JsonView object = TRY(JsonView(body).object("role"));
    const Role changed = TRY(identity.store().update_role(id, [&](Role& role) -> Result<void> {
        if (object.has("name")) {
            role.name = TRY(read_name(object));
        }
        return read_optional_text(object, "description", role.description);
    }));
    return role_reply(request, changed);
}

Json reference(const std::string& base, const Role& role) {
    return Json::object({{"id", role.id},
                         {"name", role.name},
                         {"links", Json::object({{"self", base + "/roles/" + role.id}})}});
}

const Role& find(const std::vector<Role>& roles, const std::string& id) {
    const auto found =
        std::find_if(roles.begin(), roles.end(), [&](const Role& role) { return role.id == id; });
    static const Role kGone{.id = {}, .name = {}, .description = {}};
    return found == roles.end() ? kGone : *found;
}

Json inference(const std::string& base, const std::vector<Role>& roles, const Role& prior,
               const std::vector<compute::identity::ImpliedRole>& implications) {
    Json::Array implied;
    for (const auto& rule : implications) {
        if (rule.prior_id == prior.id) {
            implied.push_back(reference(base, find(roles, rule.implied_id)));
        }
    }
    return Json::object({{"prior_role", reference(base, prior)}, {"implies", Json(implied)}});
}

Result<Reply> list_implied(Identity& identity, Request& request) {
    TRY(authorize(request, "identity:list_implied_roles"));
    const Role prior = TRY(identity.store().role(request.parameter("role_id")));
    const auto roles = TRY(identity.store().roles());
    const auto implications = TRY(identity.grants().implications());
    return Reply::json(Json::object(
        {{"role_inference", inference(v3_base(request), roles, prior, implications)},
         {"links", Json::object({{"self", request.base_url() + request.raw_target}})}}));
}

Result<Reply> list_inferences(Identity& identity, Request& request) {
    TRY(authorize(request, "identity:list_role_inference_rules"));
    const auto roles = TRY(identity.store().roles());
    const auto implications = TRY(identity.grants().implications());
    Json::Array inferences;
    for (const Role& prior : roles) {
        Json item = inference(v3_base(request), roles, prior, implications);
        if (item.find("implies")->size() > 0) {
            inferences.push_back(std::move(item));
        }
    }
    return Reply::json(Json::object(
        {{"role_inferences", Json(std::move(inferences))},
         {"links", Json::object({{"self", request.base_url() + request.raw_target}})}}));
}

Result<Reply> imply(Identity& identity, Request& request) {
    TRY(authorize(request, "identity:create_implied_role"));
    const Role prior = TRY(identity.store().role(request.parameter("role_id")));
    const Role implied = TRY(identity.store().role(request.parameter("implied_id")));
    TRY(identity.grants().imply({prior.id, implied.id}));
    const std::string base = v3_base(request);
    return Reply::json(
        Json::object({{"role_inference", Json::object({{"prior_role", reference(base, prior)},
                                                       {"implies", reference(base, implied)}})}}),
        201);
}

void add_implication_routes(Router& router, Identity& identity) {
    route(router, "GET", "/v3/role_inferences",
          [&](Request& request) { return list_inferences(identity, request); });
    route(router, "GET", "/v3/roles/{role_id}/implies",
          [&](Request& request) { return list_implied(identity, request); });
    route(router, "PUT", "/v3/roles/{role_id}/implies/{implied_id}",
          [&](Request& request) { return imply(identity, request); });
    route(router, "DELETE", "/v3/roles/{role_id}/implies/{implied_id}",
          [&](Request& request) -> Result<Reply> {
              TRY(authorize(request, "identity:delete_implied_role"));
              TRY(identity.grants().stop_implying(
                  {request.parameter("role_id"), request.parameter("implied_id")}));
              return Reply::no_content();
          });
}

}  // namespace

void add_role_routes(Router& router, Identity& identity) {
    route(router, "GET", "/v3/roles", [&](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:list_roles"));
        const auto roles = TRY(identity.store().roles());
        return collection(request, "roles", views(v3_base(request), roles, role_view),
                          {"name", "domain_id", "id"});
    });
    route(router, "POST", "/v3/roles", [&](Request& request) { return create(identity, request); });
    route(router, "GET", "/v3/roles/{role_id}", [&](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:get_role"));
        return role_reply(request, TRY(identity.store().role(request.parameter("role_id"))));
    });
    route(router, "PATCH", "/v3/roles/{role_id}",
          [&](Request& request) { return update(identity, request); });
    route(router, "DELETE", "/v3/roles/{role_id}", [&](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:delete_role"));
        TRY(refuse_built_in(identity, request.parameter("role_id")));
        TRY(identity.store().remove_role(request.parameter("role_id")));
        return Reply::no_content();
    });
    add_implication_routes(router, identity);
}

}  // namespace kumoi::api::identity
