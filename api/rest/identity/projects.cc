// /v3/projects and /v3/domains. There is one domain; projects do not nest.
#include "api/rest/identity/identity_routes.h"
#include "api/rest/identity/identity_views.h"

namespace kumoi::api::identity {
namespace {

using compute::identity::Project;

constexpr size_t kTagsMax = 80;

Reply project_reply(const Request& request, const Project& project, int status = 200) {
    return Reply::json(Json::object({{"project", project_view(v3_base(request), project)}}),
                       status);
}

Result<std::vector<std::string>> read_tags(const JsonView& object) {
    std::vector<std::string> tags;
    for (const JsonView& item : TRY(object.array("tags"))) {
        std::string tag = TRY(item.as_string());
        if (tag.empty() || tag.size() > 255 || tag.find_first_of(",/") != std::string::npos) {
            return item.error("a tag has 1 to 255 characters, no comma and no slash");
        }
        tags.push_back(std::move(tag));
    }
    if (tags.size() > kTagsMax) {
        return object.error("a project has at most 80 tags");
    }
    return tags;
}

// The members that creation and change have in common.
Result<void> read_common(const JsonView& object, Project& project) {
    if (object.has("description")) {
        project.description = TRY(object.string("description"));
    }
    project.enabled = TRY(object.boolean_or("enabled", project.enabled));
    if (object.has("tags")) {
        project.tags = TRY(read_tags(object));
    }
    return {};
}

Result<Reply> create(Identity& identity, Request& request) {
    TRY(authorize(request, "identity:create_project"));
    const Json body = TRY(request.json());
    const JsonView object = TRY(JsonView(body).object("project"));
    Project project{.name = TRY(read_name(object))};
    TRY(check_domain_id(object));
    TRY(read_common(object, project));
    if (TRY(object.boolean_or("is_domain", false))) {
        return Error::forbidden("Projects that act as domains are not offered here.");
    }
    const std::string parent =
        TRY(object.string_or("parent_id", compute::identity::kDefaultDomainId));
    if (object.has("parent_id") && parent != compute::identity::kDefaultDomainId) {
        return Error::forbidden("Projects inside projects are not offered here.")
            .with_hint("Leave parent_id out.");
    }
    return project_reply(request, TRY(identity.store().create_project(std::move(project))), 201);
}

Result<Reply> update(Identity& identity, Request& request) {
    TRY(authorize(request, "identity:update_project"));
    const Json body = TRY(request.json());
    const JsonView object = TRY(JsonView(body).object("project"));
    TRY(check_domain_id(object));
    const auto changed = TRY(identity.store().update_project(
        request.parameter("project_id"), [&](Project& project) -> Result<void> {
            if (object.has("name")) {
                project.name = TRY(read_name(object));
            }
            return read_common(object, project);
        }));
    return project_reply(request, changed);
}

}  // namespace

void add_project_routes(Router& router, Identity& identity) {
    route(router, "GET", "/v3/projects", [&](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:list_projects"));
        const auto projects = TRY(identity.store().projects());
        return collection(request, "projects", views(v3_base(request), projects, project_view),
                          {"name", "enabled", "domain_id", "parent_id", "is_domain", "id"});
    });
    route(router, "POST", "/v3/projects",
          [&](Request& request) { return create(identity, request); });
    route(router, "GET", "/v3/projects/{project_id}", [&](Request& request) -> Result<Reply> {
        const std::string& id = request.parameter("project_id");
        TRY(authorize(request, "identity:get_project", {.project_id = id}));
        return project_reply(request, TRY(identity.store().project(id)));
    });
    route(router, "PATCH", "/v3/projects/{project_id}",
          [&](Request& request) { return update(identity, request); });
    route(router, "DELETE", "/v3/projects/{project_id}", [&](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:delete_project"));
        TRY(identity.store().remove_project(request.parameter("project_id")));
        return Reply::no_content();
    });
    route(router, "GET", "/v3/domains", [](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:list_domains"));
        return collection(request, "domains", {domain_view(v3_base(request))},
                          {"name", "enabled", "id"});
    });
    route(router, "GET", "/v3/domains/{domain_id}", [](Request& request) -> Result<Reply> {
        TRY(authorize(request, "identity:get_domain"));
        const std::string& id = request.parameter("domain_id");
        if (id != compute::identity::kDefaultDomainId) {
            return Error::not_found("Could not find domain: {}.", id);
        }
        return Reply::json(Json::object({{"domain", domain_view(v3_base(request))}}));
    });
}

}  // namespace kumoi::api::identity
