// AppCredentialStore: application credentials: a name and a secret by which a program acts for a
// user in one project with some of that user's roles, until it expires or is deleted. The secret is
// kept hashed only. Any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/conductor/identity_records.h"
#include "compute/conductor/identity_store.h"

namespace kumoi::compute::identity {

class AppCredentialStore {
public:
    AppCredentialStore(Database& database, Generation& generation)
        : database_(database), generation_(generation) {}

    // The caller has set the id and checked that the user holds the roles.
    Result<void> create(const AppCredential& credential, const std::string& secret_hash);
    Result<AppCredential> get(const std::string& id) const;
    Result<std::optional<AppCredential>> find(const std::string& user_id,
                                              const std::string& name) const;
    Result<std::vector<AppCredential>> list(const std::string& user_id) const;
    Result<std::string> secret_hash(const std::string& id) const;
    Result<void> remove(const std::string& user_id, const std::string& id);  // revokes its tokens

private:
    Database& database_;
    Generation& generation_;
};

// NotFound when absent.
Result<AppCredential> app_credential(SqlSession& sql, const std::string& id);

}  // namespace kumoi::compute::identity
