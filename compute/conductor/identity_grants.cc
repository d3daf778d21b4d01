#include "compute/conductor/identity_grants.h"

#include <algorithm>
#include <set>

namespace kumoi::compute::identity {
namespace {

Result<void> must_exist(SqlSession& sql, const char* table, std::string_view kind,
                        const std::string& id) {
    if (!TRY(sql.query_one(fmt::format("SELECT 1 FROM {} WHERE id = ?", table), id))) {
        return Error::not_found("Could not find {}: {}.", kind, id);
    }
    return {};
}

Result<void> check_assignment(SqlSession& sql, const Assignment& assignment) {
    TRY(must_exist(sql, "identity_users", "user", assignment.user_id));
    TRY(must_exist(sql, "identity_roles", "role", assignment.role_id));
    switch (assignment.target.kind) {
        case TargetKind::Project:
            return must_exist(sql, "identity_projects", "project", assignment.target.id);
        case TargetKind::Domain:
            if (assignment.target.id != kDefaultDomainId) {
                return Error::not_found("Could not find domain: {}.", assignment.target.id);
            }
            return {};
        case TargetKind::System: return {};
    }
    return {};
}

Result<std::vector<ImpliedRole>> read_implications(SqlSession& sql) {
    std::vector<ImpliedRole> implications;
    for (const SqlRow& row :
         TRY(sql.query("SELECT prior_id, implied_id FROM "
                       "identity_implied_roles ORDER BY prior_id, implied_id"))) {
        implications.push_back({row.text(0), row.text(1)});
    }
    return implications;
}

// The ids and everything reachable from them.
std::set<std::string> closure(std::vector<std::string> pending,
                              const std::vector<ImpliedRole>& implications) {
    std::set<std::string> reached;
    while (!pending.empty()) {
        const std::string id = std::move(pending.back());
        pending.pop_back();
        if (!reached.insert(id).second) {
            continue;
        }
        for (const ImpliedRole& implied : implications) {
            if (implied.prior_id == id) {
                pending.push_back(implied.implied_id);
            }
        }
    }
    return reached;
}

Result<std::vector<Role>> roles_with_implied(SqlSession& sql, std::vector<std::string> role_ids) {
    if (role_ids.empty()) {
        return std::vector<Role>();
    }
    const auto reached = closure(std::move(role_ids), TRY(read_implications(sql)));
    std::vector<Role> roles;
    for (const SqlRow& row :
         TRY(sql.query(fmt::format("SELECT {} FROM identity_roles ORDER BY name", kRoleColumns)))) {
        if (reached.contains(row.text(0))) {
            roles.push_back(read_role(row));
        }
    }
    return roles;
}

}  // namespace

Result<std::vector<Role>> effective_roles(SqlSession& sql, const std::string& user_id,
                                          const Target& target) {
    std::vector<std::string> granted;
    for (const SqlRow& row : TRY(sql.query("SELECT role_id FROM identity_assignments "
                                           "WHERE user_id = ? AND kind = ? AND target_id = ?",
                                           user_id, target.kind, target.id))) {
        granted.push_back(row.text(0));
    }
    return roles_with_implied(sql, std::move(granted));
}

Result<void> IdentityGrants::grant(const Assignment& assignment) {
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(check_assignment(sql, assignment));
        TRY(sql.run(
            "INSERT OR IGNORE INTO identity_assignments(kind, target_id, user_id, role_id) "
            "VALUES(?, ?, ?, ?)",
            assignment.target.kind, assignment.target.id, assignment.user_id, assignment.role_id));
        return {};
    }));
    ++generation_;
    return {};
}

Result<void> IdentityGrants::revoke(const Assignment& assignment) {
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(check_assignment(sql, assignment));
        const auto gone = TRY(sql.run(
            "DELETE FROM identity_assignments "
            "WHERE kind = ? AND target_id = ? AND user_id = ? AND role_id = ?",
            assignment.target.kind, assignment.target.id, assignment.user_id, assignment.role_id));
        if (gone == 0) {
            return Error::not_found("Could not find role assignment with role: {}, user: {}.",
                                    assignment.role_id, assignment.user_id);
        }
        return {};
    }));
    ++generation_;
    return {};
}

Result<std::vector<Assignment>> IdentityGrants::list(const AssignmentFilter& filter) const {
    const auto rows = TRY(database_.read([&](SqlSession& sql) {
        return sql.query(
            "SELECT kind, target_id, user_id, role_id FROM identity_assignments "
            "WHERE (?1 = '' OR user_id = ?1) AND (?2 = '' OR role_id = ?2) "
            "AND (?3 IS NULL OR (kind = ?3 AND target_id = ?4)) "
            "ORDER BY kind, target_id, user_id, role_id",
            filter.user_id, filter.role_id,
            filter.target ? std::optional<int64_t>(static_cast<int64_t>(filter.target->kind))
                          : std::nullopt,
            filter.target ? filter.target->id : std::string());
    }));
    std::vector<Assignment> assignments;
    assignments.reserve(rows.size());
    for (const SqlRow& row : rows) {
        assignments.push_back(
            {{static_cast<TargetKind>(row.integer(0)), row.text(1)}, row.text(2), row.text(3)});
    }
    return assignments;
}

Result<std::vector<Role>> IdentityGrants::effective_roles(const std::string& user_id,
                                                          const Target& target) const {
    return database_.read(
        [&](SqlSession& sql) { return identity::effective_roles(sql, user_id, target); });
}

Result<std::vector<Project>> IdentityGrants::projects_of(const std::string& user_id) const {
    const auto rows = TRY(database_.read([&](SqlSession& sql) {
        return sql.query(fmt::format("SELECT {} FROM identity_projects WHERE enabled = 1 AND id IN "
                                     "(SELECT target_id FROM identity_assignments "
                                     "WHERE user_id = ? AND kind = ?) ORDER BY name",
                                     kProjectColumns),
                         user_id, TargetKind::Project);
    }));
    std::vector<Project> projects;
    projects.reserve(rows.size());
    for (const SqlRow& row : rows) {
        projects.push_back(read_project(row));
    }
    return projects;
}

Result<std::vector<ImpliedRole>> IdentityGrants::implications() const {
    return database_.read([](SqlSession& sql) { return read_implications(sql); });
}

Result<void> IdentityGrants::imply(const ImpliedRole& implied) {
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(must_exist(sql, "identity_roles", "role", implied.prior_id));
        TRY(must_exist(sql, "identity_roles", "role", implied.implied_id));
        if (closure({implied.implied_id}, TRY(read_implications(sql))).contains(implied.prior_id)) {
            return Error::conflict("Role {} already implies role {}: a circle is not allowed.",
                                   implied.implied_id, implied.prior_id);
        }
        TRY(
            sql.run("INSERT OR IGNORE INTO identity_implied_roles(prior_id, implied_id) "
                    "VALUES(?, ?)",
                    implied.prior_id, implied.implied_id));
        return {};
    }));
    ++generation_;
    return {};
}

Result<void> IdentityGrants::stop_implying(const ImpliedRole& implied) {
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        if (TRY(sql.run("DELETE FROM identity_implied_roles WHERE prior_id = ? AND implied_id = ?",
                        implied.prior_id, implied.implied_id)) == 0) {
            return Error::not_found("Role {} does not imply role {}.", implied.prior_id,
                                    implied.implied_id);
        }
        return {};
    }));
    ++generation_;
    return {};
}

Result<std::vector<Role>> IdentityGrants::with_implied(std::vector<std::string> role_ids) const {
    return database_.read(
        [&](SqlSession& sql) { return roles_with_implied(sql, std::move(role_ids)); });
}

}  // namespace kumoi::compute::identity
