#include "compute/conductor/identity_schema.h"

namespace kumoi::compute::identity {

// Deleting a user, project, role or credential takes everything that rests on it along (CASCADE),
// tokens included: a token never outlives what it speaks for.
const std::vector<std::string>& schema() {
    static const std::vector<std::string> kStatements{
        R"(CREATE TABLE identity_projects(
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL,
            enabled INTEGER NOT NULL, tags TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE identity_users(
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, password_hash TEXT,
            enabled INTEGER NOT NULL, default_project_id TEXT, description TEXT, email TEXT
            ) WITHOUT ROWID;
        CREATE TABLE identity_roles(
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT) WITHOUT ROWID;
        CREATE TABLE identity_implied_roles(
            prior_id TEXT NOT NULL REFERENCES identity_roles(id) ON DELETE CASCADE,
            implied_id TEXT NOT NULL REFERENCES identity_roles(id) ON DELETE CASCADE,
            PRIMARY KEY(prior_id, implied_id)) WITHOUT ROWID;
        CREATE TABLE identity_assignments(
            kind INTEGER NOT NULL, target_id TEXT NOT NULL,
            user_id TEXT NOT NULL REFERENCES identity_users(id) ON DELETE CASCADE,
            role_id TEXT NOT NULL REFERENCES identity_roles(id) ON DELETE CASCADE,
            PRIMARY KEY(kind, target_id, user_id, role_id)) WITHOUT ROWID;
        CREATE INDEX identity_assignments_user ON identity_assignments(user_id);
        CREATE INDEX identity_assignments_role ON identity_assignments(role_id);)",
        R"(CREATE TABLE identity_app_credentials(
            id TEXT PRIMARY KEY,
            user_id TEXT NOT NULL REFERENCES identity_users(id) ON DELETE CASCADE,
            project_id TEXT NOT NULL REFERENCES identity_projects(id) ON DELETE CASCADE,
            name TEXT NOT NULL, description TEXT, secret_hash TEXT NOT NULL, expires_ns INTEGER,
            unrestricted INTEGER NOT NULL, UNIQUE(user_id, name)) WITHOUT ROWID;
        CREATE INDEX identity_app_credentials_project ON identity_app_credentials(project_id);
        CREATE TABLE identity_app_credential_roles(
            credential_id TEXT NOT NULL REFERENCES identity_app_credentials(id) ON DELETE CASCADE,
            role_id TEXT NOT NULL REFERENCES identity_roles(id) ON DELETE CASCADE,
            PRIMARY KEY(credential_id, role_id)) WITHOUT ROWID;
        CREATE INDEX identity_app_credential_roles_role ON identity_app_credential_roles(role_id);
        CREATE TABLE identity_tokens(
            hash TEXT PRIMARY KEY,
            user_id TEXT NOT NULL REFERENCES identity_users(id) ON DELETE CASCADE,
            project_id TEXT REFERENCES identity_projects(id) ON DELETE CASCADE,
            scope INTEGER, app_credential_id TEXT
                REFERENCES identity_app_credentials(id) ON DELETE CASCADE,
            methods TEXT NOT NULL, audit_ids TEXT NOT NULL,
            issued_ns INTEGER NOT NULL, expires_ns INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX identity_tokens_user ON identity_tokens(user_id);
        CREATE INDEX identity_tokens_project ON identity_tokens(project_id);
        CREATE INDEX identity_tokens_credential ON identity_tokens(app_credential_id);
        CREATE INDEX identity_tokens_expiry ON identity_tokens(expires_ns);)",
        R"(CREATE TABLE identity_regions(id TEXT PRIMARY KEY, description TEXT NOT NULL)
            WITHOUT ROWID;
        CREATE TABLE identity_services(
            id TEXT PRIMARY KEY, type TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
            enabled INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE identity_endpoints(
            id TEXT PRIMARY KEY,
            service_id TEXT NOT NULL REFERENCES identity_services(id) ON DELETE CASCADE,
            interface TEXT NOT NULL,
            region_id TEXT NOT NULL REFERENCES identity_regions(id) ON DELETE CASCADE,
            url TEXT NOT NULL, enabled INTEGER NOT NULL,
            UNIQUE(service_id, interface, region_id)) WITHOUT ROWID;)",
    };
    return kStatements;
}

}  // namespace kumoi::compute::identity
