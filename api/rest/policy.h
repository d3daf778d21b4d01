// Policy: who may do what, as a table from rule name to check, in the manner of oslo.policy. Rule
// names are the services' own ("os_compute_api:servers:create"), so Nova's documentation holds.
// Filled at start, immutable while serving: any thread. Refusals are Forbidden, with Nova's
// sentence and the roles that would do.
//
//     Policy policy({{"os_compute_api:servers:create", Check::ProjectMemberOrAdmin}, ...});
//     TRY(policy.authorize(who, "os_compute_api:servers:show", {.project_id = server.project_id}));
//
// A target that names no project stands for the caller's own. Roles imply lower ones (context.h).
// Looking up another project's object must end as 404 before policy is asked, or its existence
// leaks.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/rest/context.h"
#include "base/result.h"

namespace kumoi::api {

// Nova's and Keystone's default checks.
enum class Check {
    Any,            // every valid token
    Admin,          // role admin
    Service,        // role service
    ProjectReader,  // reader or above, scoped to the target's project
    ProjectReaderOrAdmin,
    ProjectMemberOrAdmin,
    ProjectManagerOrAdmin,
    UserOrAdmin,            // the target's user itself, or admin
    ReaderOfSystemOrAdmin,  // admin, or reader with system scope
    Nobody,
};

std::string_view check_text(Check check);  // for the refusal: what would have been needed

struct PolicyTarget {
    std::string project_id = {};
    std::string user_id = {};
};

class Policy {
public:
    using Rule = std::pair<std::string, Check>;

    Policy(std::initializer_list<Rule> rules);
    explicit Policy(const std::vector<Rule>& rules);

    // Asserts that the rule exists: a handler naming an unknown rule is our bug.
    Result<void> authorize(const AuthContext& who, std::string_view rule,
                           const PolicyTarget& target = {}) const;
    bool allows(const AuthContext& who, std::string_view rule,
                const PolicyTarget& target = {}) const;
    // Replaces a default, before serving. NotFound for an unknown name.
    Result<void> set(std::string_view rule, Check check);

private:
    Check find(std::string_view rule) const;
    std::map<std::string, Check, std::less<>> rules_;
};

bool passes(Check check, const AuthContext& who, const PolicyTarget& target);

}  // namespace kumoi::api
