#include "api/rest/policy.h"

#include "base/assert.h"

namespace kumoi::api {
namespace {

bool in_project(const AuthContext& who, const PolicyTarget& target) {
    return !who.project_id.empty() &&
           (target.project_id.empty() || target.project_id == who.project_id);
}

bool is_manager(const AuthContext& who) {
    return who.is_admin || who.has_role("manager");
}

}  // namespace

std::string_view check_text(Check check) {
    switch (check) {
        case Check::Any: return "any valid token";
        case Check::Admin: return "role admin";
        case Check::Service: return "role service";
        case Check::ProjectReader: return "role reader in that project";
        case Check::ProjectReaderOrAdmin: return "role reader in that project, or admin";
        case Check::ProjectMemberOrAdmin: return "role member in that project, or admin";
        case Check::ProjectManagerOrAdmin: return "role manager in that project, or admin";
        case Check::UserOrAdmin: return "being that user, or role admin";
        case Check::ReaderOfSystemOrAdmin: return "role admin, or reader with system scope";
        case Check::Nobody: return "nothing: it is switched off here";
    }
    return "";
}

bool passes(Check check, const AuthContext& who, const PolicyTarget& target) {
    switch (check) {
        case Check::Any: return true;
        case Check::Admin: return who.is_admin;
        case Check::Service: return who.has_role("service");
        case Check::ProjectReader: return in_project(who, target) && who.can_read();
        case Check::ProjectReaderOrAdmin:
            return who.is_admin || (in_project(who, target) && who.can_read());
        case Check::ProjectMemberOrAdmin:
            return who.is_admin || (in_project(who, target) && who.can_write());
        case Check::ProjectManagerOrAdmin:
            return who.is_admin || (in_project(who, target) && is_manager(who));
        case Check::UserOrAdmin:
            return who.is_admin || (!who.user_id.empty() && target.user_id == who.user_id);
        case Check::ReaderOfSystemOrAdmin:
            return who.is_admin || (who.system_scope && who.can_read());
        case Check::Nobody: return false;
    }
    return false;
}

Policy::Policy(std::initializer_list<Rule> rules) : Policy(std::vector<Rule>(rules)) {}

Policy::Policy(const std::vector<Rule>& rules) {
    for (const auto& [name, check] : rules) {
        KUMOI_ASSERT(rules_.emplace(name, check).second);
    }
}

Check Policy::find(std::string_view rule) const {
    const auto found = rules_.find(rule);
    KUMOI_ASSERT(found != rules_.end());
    return found->second;
}

bool Policy::allows(const AuthContext& who, std::string_view rule,
                    const PolicyTarget& target) const {
    return passes(find(rule), who, target);
}

Result<void> Policy::authorize(const AuthContext& who, std::string_view rule,
                               const PolicyTarget& target) const {
    const Check check = find(rule);
    if (passes(check, who, target)) {
        return {};
    }
    return Error::forbidden("Policy doesn't allow {} to be performed.", rule)
        .with_hint(fmt::format("It takes {}.", check_text(check)))
        .with_fault("PolicyNotAuthorized");
}

Result<void> Policy::set(std::string_view rule, Check check) {
    const auto found = rules_.find(rule);
    if (found == rules_.end()) {
        return Error::not_found("There is no policy rule {}.", rule);
    }
    found->second = check;
    return {};
}

}  // namespace kumoi::api
