// IdentityGrants: who holds which role on what, and which roles imply others (admin implies manager
// implies member implies reader). effective_roles() is what a token carries. Any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/conductor/identity_records.h"
#include "compute/conductor/identity_store.h"

namespace kumoi::compute::identity {

// Empty fields match everything.
struct AssignmentFilter {
    std::string user_id;
    std::string role_id;
    std::optional<Target> target;
};

class IdentityGrants {
public:
    IdentityGrants(Database& database, Generation& generation)
        : database_(database), generation_(generation) {}

    // Both fail with NotFound when user, role or project do not exist; granting twice is fine,
    // revoking what was not granted is NotFound.
    Result<void> grant(const Assignment& assignment);
    Result<void> revoke(const Assignment& assignment);
    Result<std::vector<Assignment>> list(const AssignmentFilter& filter) const;
    // Granted and implied, sorted by name.
    Result<std::vector<Role>> effective_roles(const std::string& user_id,
                                              const Target& target) const;
    // Enabled ones in which the user holds any role, sorted by name.
    Result<std::vector<Project>> projects_of(const std::string& user_id) const;

    Result<std::vector<ImpliedRole>> implications() const;
    Result<void> imply(const ImpliedRole& implied);  // a cycle is a Conflict
    Result<void> stop_implying(const ImpliedRole& implied);
    // `roles` and all they imply.
    Result<std::vector<Role>> with_implied(std::vector<std::string> role_ids) const;

private:
    Database& database_;
    Generation& generation_;
};

Result<std::vector<Role>> effective_roles(SqlSession& sql, const std::string& user_id,
                                          const Target& target);

}  // namespace kumoi::compute::identity
