#include "api/nova/oslo_context.h"

#include <algorithm>

#include "base/uuid.h"

namespace kumoi::nova {
namespace {

constexpr char kAdminRole[] = "admin";

}  // namespace

Json admin_context(const Clock& clock, Random& random, const std::string& request_id) {
    const std::string id = request_id.empty() ? "req-" + Uuid::generate(random).text() : request_id;
    std::string timestamp = iso8601_micros(clock.wall_ns());
    timestamp.resize(timestamp.find('Z'));
    return Json::object({{"user", nullptr},
                         {"project_id", nullptr},
                         {"system_scope", nullptr},
                         {"project", nullptr},
                         {"domain", nullptr},
                         {"user_domain", nullptr},
                         {"project_domain", nullptr},
                         {"is_admin", true},
                         {"read_only", false},
                         {"show_deleted", false},
                         {"auth_token", nullptr},
                         {"request_id", id},
                         {"global_request_id", nullptr},
                         {"resource_uuid", nullptr},
                         {"roles", Json::array()},
                         {"user_identity", "- - - - -"},
                         {"is_admin_project", true},
                         {"user_id", nullptr},
                         {"read_deleted", "no"},
                         {"remote_address", nullptr},
                         {"timestamp", timestamp},
                         {"quota_class", nullptr},
                         {"user_name", nullptr},
                         {"service_catalog", Json::array()},
                         {"project_name", nullptr}});
}

Json elevated(Json context) {
    context.set("is_admin", true);
    Json& roles = context["roles"];
    if (!roles.is_array()) {
        roles = Json::array();
    }
    const auto& all = roles.as_array();
    if (std::find(all.begin(), all.end(), Json(kAdminRole)) == all.end()) {
        roles.push_back(kAdminRole);
    }
    return context;
}

compute::RequestContext request_context(Json context) {
    compute::RequestContext request;
    request.request_id = context.string_or("request_id");
    request.user_id = context.string_or("user_id", context.string_or("user"));
    request.project_id = context.string_or("project_id");
    request.is_admin = context.bool_or("is_admin");
    request.wire = std::make_shared<const Json>(std::move(context));
    return request;
}

Json wire_context(const compute::RequestContext& context, const Clock& clock, Random& random) {
    if (context.wire) {
        return *context.wire;
    }
    Json wire = admin_context(clock, random, context.request_id);
    if (!context.user_id.empty()) {
        wire.set("user_id", context.user_id);
        wire.set("user", context.user_id);
    }
    if (!context.project_id.empty()) {
        wire.set("project_id", context.project_id);
        wire.set("project", context.project_id);
    }
    return wire;
}

}  // namespace kumoi::nova
