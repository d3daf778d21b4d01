// IdentityStore: projects, users and roles in SQLite. Each change that may alter what a token
// stands for advances the generation, by which TokenStore knows that its cache is old. Any thread.
//
// Errors: NotFound names the kind and id asked for; a taken name is a Conflict.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/conductor/identity_records.h"

namespace kumoi::compute::identity {

// Counts changes; readers that derived something compare.
using Generation = std::atomic<uint64_t>;

class IdentityStore {
public:
    IdentityStore(Database& database, Random& random, Generation& generation)
        : database_(database), random_(random), generation_(generation) {}

    std::string new_id() const;

    Result<Project> create_project(Project project);  // sets the id when empty
    Result<Project> project(const std::string& id) const;
    Result<std::optional<Project>> project_by_name(const std::string& name) const;
    Result<std::vector<Project>> projects() const;
    // Disabling revokes the project's tokens.
    Result<Project> update_project(const std::string& id,
                                   const std::function<Result<void>(Project&)>& change);
    Result<void> remove_project(const std::string& id);

    // An empty password hash: this user cannot log in by password.
    Result<User> create_user(User user, const std::string& password_hash);
    Result<User> user(const std::string& id) const;
    Result<std::optional<User>> user_by_name(const std::string& name) const;
    Result<std::vector<User>> users() const;
    // Disabling revokes the user's tokens.
    Result<User> update_user(const std::string& id,
                             const std::function<Result<void>(User&)>& change);
    Result<std::string> password_hash(const std::string& user_id) const;
    Result<void> set_password_hash(const std::string& user_id, const std::string& hash);  // revokes
    Result<void> remove_user(const std::string& id);

    Result<Role> create_role(Role role);
    Result<Role> role(const std::string& id) const;
    Result<std::optional<Role>> role_by_name(const std::string& name) const;
    Result<std::vector<Role>> roles() const;
    Result<Role> update_role(const std::string& id,
                             const std::function<Result<void>(Role&)>& change);
    Result<void> remove_role(const std::string& id);

private:
    Result<void> remove(const std::string& table, const std::string& kind, const std::string& id);

    Database& database_;
    Random& random_;
    Generation& generation_;
};

// Column lists and readers shared with the other identity stores.
extern const char* const kProjectColumns;
extern const char* const kUserColumns;
extern const char* const kRoleColumns;
Project read_project(const SqlRow& row);
User read_user(const SqlRow& row);
Role read_role(const SqlRow& row);
std::string to_json_list(const std::vector<std::string>& items);
std::vector<std::string> from_json_list(const std::string& text);

}  // namespace kumoi::compute::identity
