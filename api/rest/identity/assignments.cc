// GET /v3/role_assignments: every grant, filtered; with ?effective the implied roles too, with
// ?include_names names beside the ids.
#include <algorithm>
#include <map>

#include "api/rest/identity/identity_routes.h"
#include "api/rest/identity/identity_views.h"

namespace kumoi::api::identity {
namespace {

using compute::identity::Assignment;
using compute::identity::AssignmentFilter;
using compute::identity::Role;
using compute::identity::Target;
using compute::identity::TargetKind;

bool flag(const Request& request, std::string_view name) {
    const auto value = request.query.first(name);
    return value && *value != "0" && !equal_ignoring_case(*value, "false");
}

Result<AssignmentFilter> filter_of(const Request& request) {
    AssignmentFilter filter{.user_id = request.query.first_or("user.id"),
                            .role_id = {},  // after implied roles are known
                            .target = {}};
    const auto project = request.query.first("scope.project.id");
    const auto domain = request.query.first("scope.domain.id");
    const bool system = request.query.has("scope.system");
    if (static_cast<int>(project.has_value()) + static_cast<int>(domain.has_value()) +
            static_cast<int>(system) >
        1) {
        return Error::invalid("Ask for one of scope.project.id, scope.domain.id, scope.system.");
    }
    if (project) {
        filter.target = Target{TargetKind::Project, *project};
    } else if (domain) {
        filter.target = Target{TargetKind::Domain, *domain};
    } else if (system) {
        filter.target = Target{TargetKind::System, "all"};
    }
    return filter;
}

// Names by id, for ?include_names.
struct Names {
    std::map<std::string, std::string> roles;
    std::map<std::string, std::string> users;
    std::map<std::string, std::string> projects;
};

Result<Names> read_names(Identity& identity) {
    Names names;
    for (const auto& role : TRY(identity.store().roles())) {
        names.roles[role.id] = role.name;
    }
    for (const auto& user : TRY(identity.store().users())) {
        names.users[user.id] = user.name;
    }
    for (const auto& project : TRY(identity.store().projects())) {
        names.projects[project.id] = project.name;
    }
    return names;
}

Json named(const std::string& id, const std::map<std::string, std::string>* names,
           bool with_domain) {
    Json json = Json::object({{"id", id}});
    const auto found = names == nullptr ? decltype(names->end()){} : names->find(id);
    if (names != nullptr && found != names->end()) {
        json.set("name", found->second);
        if (with_domain) {
            json.set("domain", domain_reference());
        }
    }
    return json;
}

Json scope_view(const Target& target, const Names* names) {
    switch (target.kind) {
        case TargetKind::Project:
            return Json::object(
                {{"project", named(target.id, names ? &names->projects : nullptr, true)}});
        case TargetKind::Domain:
            return Json::object(
                {{"domain", names ? domain_reference() : Json::object({{"id", target.id}})}});
        case TargetKind::System: break;
    }
    return Json::object({{"system", Json::object({{"all", true}})}});
}

std::string link_of(const std::string& base, const Assignment& assignment) {
    std::string target = "system";
    if (assignment.target.kind == TargetKind::Project) {
        target = "projects/" + assignment.target.id;
    } else if (assignment.target.kind == TargetKind::Domain) {
        target = "domains/" + assignment.target.id;
    }
    return fmt::format("{}/{}/users/{}/roles/{}", base, target, assignment.user_id,
                       assignment.role_id);
}

Json assignment_view(const std::string& base, const Assignment& assignment, const Names* names) {
    return Json::object(
        {{"role", named(assignment.role_id, names ? &names->roles : nullptr, false)},
         {"user", named(assignment.user_id, names ? &names->users : nullptr, true)},
         {"scope", scope_view(assignment.target, names)},
         {"links", Json::object({{"assignment", link_of(base, assignment)}})}});
}

// One assignment for each role that is granted or implied; none twice.
Result<std::vector<Assignment>> effective(Identity& identity,
                                          const std::vector<Assignment>& granted) {
    std::vector<Assignment> all;
    for (const Assignment& assignment : granted) {
        for (const Role& role : TRY(identity.grants().with_implied({assignment.role_id}))) {
            const bool known = std::any_of(all.begin(), all.end(), [&](const Assignment& other) {
                return other.user_id == assignment.user_id && other.role_id == role.id &&
                       other.target == assignment.target;
            });
            if (!known) {
                all.push_back({assignment.target, assignment.user_id, role.id});
            }
        }
    }
    return all;
}

Result<Reply> list(Identity& identity, Request& request) {
    const AssignmentFilter filter = TRY(filter_of(request));
    const bool only_own = !filter.user_id.empty() && filter.user_id == auth_of(request).user_id;
    if (!only_own) {
        TRY(authorize(request, "identity:list_role_assignments"));
    }
    std::vector<Assignment> assignments;
    // There are no groups and nothing is inherited: asked for those, the answer is empty.
    const bool none =
        request.query.has("group.id") || request.query.has("scope.OS-INHERIT:inherited_to");
    if (!none) {
        assignments = TRY(identity.grants().list(filter));
    }
    if (flag(request, "effective")) {
        assignments = TRY(effective(identity, assignments));
    }
    if (const auto role_id = request.query.first("role.id")) {
        std::erase_if(assignments,
                      [&](const Assignment& item) { return item.role_id != *role_id; });
    }
    std::optional<Names> names;
    if (flag(request, "include_names")) {
        names = TRY(read_names(identity));
    }
    Json::Array items;
    for (const Assignment& assignment : assignments) {
        items.push_back(assignment_view(v3_base(request), assignment, names ? &*names : nullptr));
    }
    return collection(request, "role_assignments", std::move(items), {});
}

}  // namespace

void add_assignment_routes(Router& router, Identity& identity) {
    route(router, "GET", "/v3/role_assignments",
          [&](Request& request) { return list(identity, request); });
}

}  // namespace kumoi::api::identity
