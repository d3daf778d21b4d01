#include "api/rest/identity/token_views.h"

#include "api/rest/identity/identity_views.h"
#include "base/clock.h"

namespace kumoi::api::identity {
namespace {

Json::Array endpoints_of(const std::string& service_id,
                         const std::vector<compute::identity::Endpoint>& endpoints) {
    Json::Array items;
    for (const auto& endpoint : endpoints) {
        if (endpoint.service_id == service_id && endpoint.enabled) {
            items.push_back(Json::object({{"id", endpoint.id},
                                          {"interface", endpoint.interface},
                                          {"region_id", endpoint.region_id},
                                          {"region", endpoint.region_id},
                                          {"url", endpoint.url}}));
        }
    }
    return items;
}

Json roles_view(const std::vector<compute::identity::Role>& roles) {
    Json::Array items;
    for (const auto& role : roles) {
        items.push_back(Json::object({{"id", role.id}, {"name", role.name}}));
    }
    return Json(std::move(items));
}

void add_scope(const compute::identity::Token& token, Json& view) {
    if (token.project) {
        view.set("project", Json::object({{"domain", domain_reference()},
                                          {"id", token.project->id},
                                          {"name", token.project->name}}));
        view.set("is_domain", false);
    } else if (token.domain_scope) {
        view.set("domain", domain_reference());
    } else if (token.system_scope) {
        view.set("system", Json::object({{"all", true}}));
    }
}

}  // namespace

Result<Json> catalog_view(compute::identity::Identity& identity) {
    const auto services = TRY(identity.catalog().services());
    const auto endpoints = TRY(identity.catalog().endpoints());
    Json::Array items;
    for (const auto& service : services) {
        if (service.enabled) {
            items.push_back(Json::object({{"endpoints", Json(endpoints_of(service.id, endpoints))},
                                          {"id", service.id},
                                          {"type", service.type},
                                          {"name", service.name}}));
        }
    }
    return Json(std::move(items));
}

Result<Json> token_view(compute::identity::Identity& identity,
                        const compute::identity::Token& token, bool with_catalog) {
    Json view = Json::object({{"methods", Json::array_of(token.methods)},
                              {"user", Json::object({{"domain", domain_reference()},
                                                     {"id", token.user.id},
                                                     {"name", token.user.name},
                                                     {"password_expires_at", nullptr}})},
                              {"audit_ids", Json::array_of(token.audit_ids)},
                              {"expires_at", iso8601_micros(token.expires_ns)},
                              {"issued_at", iso8601_micros(token.issued_ns)}});
    add_scope(token, view);
    if (!token.roles.empty()) {
        view.set("roles", roles_view(token.roles));
        if (with_catalog) {
            view.set("catalog", TRY(catalog_view(identity)));
        }
    }
    if (token.app_credential) {
        view.set("application_credential",
                 Json::object({{"id", token.app_credential->id},
                               {"name", token.app_credential->name},
                               {"restricted", !token.app_credential->unrestricted}}));
    }
    return view;
}

}  // namespace kumoi::api::identity
