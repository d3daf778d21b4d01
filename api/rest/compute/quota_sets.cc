// Quota sets: limits of a project, with use and reservations in the detailed form, and the default
// class. Which resources are shown depends on the microversion.
#include <array>

#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"
#include "api/rest/schema.h"

namespace kumoi::api {
namespace {

// Until which microversion a resource is in the answers.
struct ShownResource {
    std::string_view name;
    int until;
};
constexpr std::array<ShownResource, 14> kShown = {{{"instances", 96},
                                                   {"cores", 96},
                                                   {"ram", 96},
                                                   {"metadata_items", 96},
                                                   {"key_pairs", 96},
                                                   {"server_groups", 96},
                                                   {"server_group_members", 96},
                                                   {"fixed_ips", 35},
                                                   {"floating_ips", 35},
                                                   {"security_groups", 35},
                                                   {"security_group_rules", 35},
                                                   {"injected_files", 56},
                                                   {"injected_file_content_bytes", 56},
                                                   {"injected_file_path_bytes", 56}}};

int64_t used(const Call& call, const std::string& project, std::string_view resource) {
    const compute::ProjectUsage usage = call.conductor().instances().usage(project);
    if (resource == "instances") {
        return usage.instances;
    }
    if (resource == "cores") {
        return usage.cores;
    }
    if (resource == "ram") {
        return usage.ram_mb;
    }
    if (resource == "server_groups") {
        return call.conductor().server_groups().count(project);
    }
    return 0;  // counted per server or per user, as Nova shows it
}

Json quota_view(const Call& call, const std::map<std::string, int64_t>& limits,
                const std::string& project, bool detail) {
    Json view = Json::object();
    for (const ShownResource& resource : kShown) {
        if (call.version.minor > resource.until) {
            continue;
        }
        const int64_t limit = limits.at(std::string(resource.name));
        view.set(resource.name, detail
                                    ? Json::object({{"limit", limit},
                                                    {"in_use", used(call, project, resource.name)},
                                                    {"reserved", 0}})
                                    : Json(limit));
    }
    return view;
}

Reply quota_reply(const Call& call, const std::map<std::string, int64_t>& limits,
                  const std::string& project, bool detail, bool with_id) {
    Json view = quota_view(call, limits, project, detail);
    if (with_id) {
        view.set("id", project);
    }
    return Reply::json(Json::object({{"quota_set", std::move(view)}}));
}

Result<Reply> show_quota(Call& call) {
    const std::string& project = call.parameter("quota_project");
    TRY(call.authorize("os_compute_api:os-quota-sets:show", {project, {}}));
    return quota_reply(call, call.conductor().quotas().limits(project), project, false, true);
}

Result<Reply> show_quota_detail(Call& call) {
    const std::string& project = call.parameter("quota_project");
    TRY(call.authorize("os_compute_api:os-quota-sets:detail", {project, {}}));
    return quota_reply(call, call.conductor().quotas().limits(project), project, true, true);
}

Result<Reply> show_defaults(Call& call) {
    const std::string& project = call.parameter("quota_project");
    TRY(call.authorize("os_compute_api:os-quota-sets:defaults"));
    return quota_reply(call, call.conductor().quotas().defaults(), project, false, true);
}

Result<std::map<std::string, int64_t>> parse_limits(const Call& call, Fields& fields) {
    std::map<std::string, int64_t> limits;
    for (const ShownResource& resource : kShown) {
        if (call.version.minor > resource.until) {
            continue;
        }
        if (const auto limit = TRY(fields.optional_integer(resource.name, {-1, 0x7FFFFFFF}))) {
            limits.emplace(resource.name, *limit);
        }
    }
    return limits;
}

Result<Reply> update_quota(Call& call) {
    const std::string& project = call.parameter("quota_project");
    TRY(call.authorize("os_compute_api:os-quota-sets:update", {project, {}}));
    const Json body = TRY(call.body());
    Fields fields = TRY(Fields::root(body, "quota_set"));
    const auto limits = TRY(parse_limits(call, fields));
    const bool force = TRY(fields.optional_boolean("force")).value_or(false);
    fields.ignore("tenant_id");
    TRY(fields.finish());
    for (const auto& [resource, limit] : limits) {
        const int64_t in_use = used(call, project, resource);
        if (!force && limit >= 0 && limit < in_use) {
            return Error::invalid(
                "Quota limit {} for {} must be greater than or equal to already used and reserved "
                "{}.",
                limit, resource, in_use);
        }
    }
    TRY(call.conductor().quotas().set(project, limits));
    return quota_reply(call, call.conductor().quotas().limits(project), project, false, false);
}

Result<Reply> delete_quota(Call& call) {
    const std::string& project = call.parameter("quota_project");
    TRY(call.authorize("os_compute_api:os-quota-sets:delete", {project, {}}));
    TRY(call.conductor().quotas().reset(project));
    return Reply::accepted();
}

Reply class_reply(const Call& call, std::string_view name) {
    Json view = quota_view(call, call.conductor().quotas().defaults(), {}, false);
    view.set("id", name);
    return Reply::json(Json::object({{"quota_class_set", std::move(view)}}));
}

Result<Reply> show_class(Call& call) {
    TRY(call.authorize("os_compute_api:os-quota-class-sets:show"));
    return class_reply(call, call.parameter("quota_class"));
}

Result<Reply> update_class(Call& call) {
    TRY(call.authorize("os_compute_api:os-quota-class-sets:update"));
    if (call.parameter("quota_class") != "default") {
        return Error::invalid("There is one quota class, 'default'; '{}' has no effect.",
                              call.parameter("quota_class"));
    }
    const Json body = TRY(call.body());
    Fields fields = TRY(Fields::root(body, "quota_class_set"));
    const auto limits = TRY(parse_limits(call, fields));
    TRY(fields.finish());
    TRY(call.conductor().quotas().set({}, limits));
    return class_reply(call, "default");
}

}  // namespace

void add_quota_set_routes(ComputeRoutes& routes) {
    routes.add("GET", "/os-quota-sets/{quota_project}", show_quota);
    routes.add("GET", "/os-quota-sets/{quota_project}/detail", show_quota_detail);
    routes.add("GET", "/os-quota-sets/{quota_project}/defaults", show_defaults);
    routes.add("PUT", "/os-quota-sets/{quota_project}", update_quota);
    routes.add("DELETE", "/os-quota-sets/{quota_project}", delete_quota);
    routes.add("GET", "/os-quota-class-sets/{quota_class}", show_class);
    routes.add("PUT", "/os-quota-class-sets/{quota_class}", update_class);
}

}  // namespace kumoi::api
