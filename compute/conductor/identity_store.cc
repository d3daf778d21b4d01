#include "compute/conductor/identity_store.h"

#include "base/json.h"
#include "base/uuid.h"

namespace kumoi::compute::identity {
namespace {

Error not_found(const std::string& kind, const std::string& id) {
    return Error::not_found("Could not find {}: {}.", kind, id)
        .with_fault(kind == "project" ? "ProjectNotFound"
                                      : (kind == "user" ? "UserNotFound" : "RoleNotFound"));
}

// A UNIQUE violation becomes a sentence about the name.
Error name_taken(Error error, const std::string& kind, const std::string& name) {
    if (error.code != ErrorCode::Conflict) {
        return error;
    }
    return Error::conflict("There is already a {} with the name {}.", kind, name)
        .with_hint("Choose another name.");
}

Result<void> delete_by_id(SqlSession& sql, const std::string& table, const std::string& kind,
                          const std::string& id) {
    if (TRY(sql.run(fmt::format("DELETE FROM {} WHERE id = ?", table), id)) == 0) {
        return not_found(kind, id);
    }
    return {};
}

template <class Record>
std::vector<Record> read_all(const std::vector<SqlRow>& rows, Record (*read)(const SqlRow&)) {
    std::vector<Record> records;
    records.reserve(rows.size());
    for (const SqlRow& row : rows) {
        records.push_back(read(row));
    }
    return records;
}

template <class Record>
Result<Record> get(SqlSession& sql, const char* columns, const char* table, const std::string& kind,
                   const std::string& id, Record (*read)(const SqlRow&)) {
    const auto row =
        TRY(sql.query_one(fmt::format("SELECT {} FROM {} WHERE id = ?", columns, table), id));
    if (!row) {
        return not_found(kind, id);
    }
    return read(*row);
}

template <class Record>
Result<std::optional<Record>> get_by_name(Database& database, const char* columns,
                                          const char* table, const std::string& name,
                                          Record (*read)(const SqlRow&)) {
    const auto row = TRY(database.read([&](SqlSession& sql) {
        return sql.query_one(fmt::format("SELECT {} FROM {} WHERE name = ?", columns, table), name);
    }));
    return row ? std::optional<Record>(read(*row)) : std::optional<Record>();
}

template <class Record>
Result<std::vector<Record>> get_all(Database& database, const char* columns, const char* table,
                                    Record (*read)(const SqlRow&)) {
    const auto rows = TRY(database.read([&](SqlSession& sql) {
        return sql.query(fmt::format("SELECT {} FROM {} ORDER BY name", columns, table));
    }));
    return read_all(rows, read);
}

}  // namespace

const char* const kProjectColumns = "id, name, description, enabled, tags";
const char* const kUserColumns = "id, name, enabled, default_project_id, description, email";
const char* const kRoleColumns = "id, name, description";

std::string to_json_list(const std::vector<std::string>& items) {
    return Json::array_of(items).dump();
}

std::vector<std::string> from_json_list(const std::string& text) {
    std::vector<std::string> items;
    const auto json = Json::parse(text);
    if (json.ok() && json.value().is_array()) {
        for (const Json& item : json.value().as_array()) {
            if (item.is_string()) {
                items.push_back(item.as_string());
            }
        }
    }
    return items;
}

Project read_project(const SqlRow& row) {
    return {.id = row.text(0),
            .name = row.text(1),
            .description = row.text(2),
            .enabled = row.integer(3) != 0,
            .tags = from_json_list(row.text(4))};
}

User read_user(const SqlRow& row) {
    return {.id = row.text(0),
            .name = row.text(1),
            .enabled = row.integer(2) != 0,
            .default_project_id = row.text_or_null(3),
            .description = row.text_or_null(4),
            .email = row.text_or_null(5)};
}

Role read_role(const SqlRow& row) {
    return {.id = row.text(0), .name = row.text(1), .description = row.text_or_null(2)};
}

std::string IdentityStore::new_id() const {
    return Uuid::generate(random_).hex();
}

Result<void> IdentityStore::remove(const std::string& table, const std::string& kind,
                                   const std::string& id) {
    TRY(database_.write([&](SqlSession& sql) { return delete_by_id(sql, table, kind, id); }));
    ++generation_;
    return {};
}

Result<Project> IdentityStore::create_project(Project project) {
    if (project.id.empty()) {
        project.id = new_id();
    }
    const auto outcome = database_.write([&](SqlSession& sql) {
        return sql.run(
            "INSERT INTO identity_projects(id, name, description, enabled, tags) "
            "VALUES(?, ?, ?, ?, ?)",
            project.id, project.name, project.description, project.enabled,
            to_json_list(project.tags));
    });
    if (!outcome.ok()) {
        return name_taken(outcome.error(), "project", project.name);
    }
    return project;
}

Result<Project> IdentityStore::project(const std::string& id) const {
    return database_.read([&](SqlSession& sql) {
        return get(sql, kProjectColumns, "identity_projects", "project", id, read_project);
    });
}

Result<std::optional<Project>> IdentityStore::project_by_name(const std::string& name) const {
    return get_by_name(database_, kProjectColumns, "identity_projects", name, read_project);
}

Result<std::vector<Project>> IdentityStore::projects() const {
    return get_all(database_, kProjectColumns, "identity_projects", read_project);
}

Result<Project> IdentityStore::update_project(const std::string& id,
                                              const std::function<Result<void>(Project&)>& change) {
    auto outcome = database_.write([&](SqlSession& sql) -> Result<Project> {
        auto project =
            TRY(get(sql, kProjectColumns, "identity_projects", "project", id, read_project));
        TRY(change(project));
        const auto changed = sql.run(
            "UPDATE identity_projects SET name = ?, description = ?, enabled = ?, tags = ? "
            "WHERE id = ?",
            project.name, project.description, project.enabled, to_json_list(project.tags), id);
        if (!changed.ok()) {
            return name_taken(changed.error(), "project", project.name);
        }
        if (!project.enabled) {
            TRY(sql.run("DELETE FROM identity_tokens WHERE project_id = ?", id));
        }
        return project;
    });
    ++generation_;
    return outcome;
}

Result<void> IdentityStore::remove_project(const std::string& id) {
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM identity_assignments WHERE kind = ? AND target_id = ?",
                    TargetKind::Project, id));
        return delete_by_id(sql, "identity_projects", "project", id);
    }));
    ++generation_;
    return {};
}

Result<User> IdentityStore::create_user(User user, const std::string& password_hash) {
    if (user.id.empty()) {
        user.id = new_id();
    }
    const auto outcome = database_.write([&](SqlSession& sql) {
        return sql.run(
            "INSERT INTO identity_users(id, name, password_hash, enabled, default_project_id, "
            "description, email) VALUES(?, ?, ?, ?, ?, ?, ?)",
            user.id, user.name, password_hash, user.enabled, user.default_project_id,
            user.description, user.email);
    });
    if (!outcome.ok()) {
        return name_taken(outcome.error(), "user", user.name);
    }
    return user;
}

Result<User> IdentityStore::user(const std::string& id) const {
    return database_.read([&](SqlSession& sql) {
        return get(sql, kUserColumns, "identity_users", "user", id, read_user);
    });
}

Result<std::optional<User>> IdentityStore::user_by_name(const std::string& name) const {
    return get_by_name(database_, kUserColumns, "identity_users", name, read_user);
}

Result<std::vector<User>> IdentityStore::users() const {
    return get_all(database_, kUserColumns, "identity_users", read_user);
}

Result<User> IdentityStore::update_user(const std::string& id,
                                        const std::function<Result<void>(User&)>& change) {
    auto outcome = database_.write([&](SqlSession& sql) -> Result<User> {
        auto user = TRY(get(sql, kUserColumns, "identity_users", "user", id, read_user));
        TRY(change(user));
        const auto changed = sql.run(
            "UPDATE identity_users SET name = ?, enabled = ?, default_project_id = ?, "
            "description = ?, email = ? WHERE id = ?",
            user.name, user.enabled, user.default_project_id, user.description, user.email, id);
        if (!changed.ok()) {
            return name_taken(changed.error(), "user", user.name);
        }
        if (!user.enabled) {
            TRY(sql.run("DELETE FROM identity_tokens WHERE user_id = ?", id));
        }
        return user;
    });
    ++generation_;
    return outcome;
}

Result<std::string> IdentityStore::password_hash(const std::string& user_id) const {
    return database_.read([&](SqlSession& sql) -> Result<std::string> {
        const auto row =
            TRY(sql.query_one("SELECT password_hash FROM identity_users WHERE id = ?", user_id));
        if (!row) {
            return not_found("user", user_id);
        }
        return row->text(0);
    });
}

Result<void> IdentityStore::set_password_hash(const std::string& user_id, const std::string& hash) {
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        if (TRY(sql.run("UPDATE identity_users SET password_hash = ? WHERE id = ?", hash,
                        user_id)) == 0) {
            return not_found("user", user_id);
        }
        TRY(sql.run("DELETE FROM identity_tokens WHERE user_id = ?", user_id));
        return {};
    }));
    ++generation_;
    return {};
}

Result<void> IdentityStore::remove_user(const std::string& id) {
    return remove("identity_users", "user", id);
}

Result<Role> IdentityStore::create_role(Role role) {
    if (role.id.empty()) {
        role.id = new_id();
    }
    const auto outcome = database_.write([&](SqlSession& sql) {
        return sql.run("INSERT INTO identity_roles(id, name, description) VALUES(?, ?, ?)", role.id,
                       role.name, role.description);
    });
    if (!outcome.ok()) {
        return name_taken(outcome.error(), "role", role.name);
    }
    return role;
}

Result<Role> IdentityStore::role(const std::string& id) const {
    return database_.read([&](SqlSession& sql) {
        return get(sql, kRoleColumns, "identity_roles", "role", id, read_role);
    });
}

Result<std::optional<Role>> IdentityStore::role_by_name(const std::string& name) const {
    return get_by_name(database_, kRoleColumns, "identity_roles", name, read_role);
}

Result<std::vector<Role>> IdentityStore::roles() const {
    return get_all(database_, kRoleColumns, "identity_roles", read_role);
}

Result<Role> IdentityStore::update_role(const std::string& id,
                                        const std::function<Result<void>(Role&)>& change) {
    auto outcome = database_.write([&](SqlSession& sql) -> Result<Role> {
        auto role = TRY(get(sql, kRoleColumns, "identity_roles", "role", id, read_role));
        TRY(change(role));
        const auto changed =
            sql.run("UPDATE identity_roles SET name = ?, description = ? WHERE id = ?", role.name,
                    role.description, id);
        if (!changed.ok()) {
            return name_taken(changed.error(), "role", role.name);
        }
        return role;
    });
    ++generation_;
    return outcome;
}

Result<void> IdentityStore::remove_role(const std::string& id) {
    return remove("identity_roles", "role", id);
}

}  // namespace kumoi::compute::identity
