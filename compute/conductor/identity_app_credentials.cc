#include "compute/conductor/identity_app_credentials.h"

namespace kumoi::compute::identity {
namespace {

constexpr const char* kColumns =
    "id, user_id, project_id, name, description, expires_ns, unrestricted";

Error not_found(const std::string& id) {
    return Error::not_found("Could not find Application Credential: {}.", id)
        .with_fault("ApplicationCredentialNotFound");
}

Result<AppCredential> read(SqlSession& sql, const SqlRow& row) {
    AppCredential credential{
        .id = row.text(0),
        .user_id = row.text(1),
        .project_id = row.text(2),
        .name = row.text(3),
        .description = row.text_or_null(4),
        .expires_ns = row.is_null(5) ? std::optional<int64_t>() : std::optional(row.integer(5)),
        .unrestricted = row.integer(6) != 0};
    for (const SqlRow& role :
         TRY(sql.query(fmt::format("SELECT {} FROM identity_roles WHERE id IN (SELECT role_id FROM "
                                   "identity_app_credential_roles WHERE credential_id = ?) "
                                   "ORDER BY name",
                                   kRoleColumns),
                       credential.id))) {
        credential.roles.push_back(read_role(role));
    }
    return credential;
}

}  // namespace

Result<AppCredential> app_credential(SqlSession& sql, const std::string& id) {
    const auto row = TRY(sql.query_one(
        fmt::format("SELECT {} FROM identity_app_credentials WHERE id = ?", kColumns), id));
    if (!row) {
        return not_found(id);
    }
    return read(sql, *row);
}

Result<void> AppCredentialStore::create(const AppCredential& credential,
                                        const std::string& secret_hash) {
    return database_.write([&](SqlSession& sql) -> Result<void> {
        const auto inserted = sql.run(
            "INSERT INTO identity_app_credentials(id, user_id, project_id, name, "
            "description, secret_hash, expires_ns, unrestricted) "
            "VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
            credential.id, credential.user_id, credential.project_id, credential.name,
            credential.description, secret_hash, credential.expires_ns, credential.unrestricted);
        if (!inserted.ok()) {
            if (inserted.error().code != ErrorCode::Conflict) {
                return inserted.error();
            }
            return Error::conflict("There is already an application credential with the name {}.",
                                   credential.name)
                .with_hint("Choose another name, or delete that one.");
        }
        for (const Role& role : credential.roles) {
            TRY(
                sql.run("INSERT INTO identity_app_credential_roles(credential_id, role_id) "
                        "VALUES(?, ?)",
                        credential.id, role.id));
        }
        return {};
    });
}

Result<AppCredential> AppCredentialStore::get(const std::string& id) const {
    return database_.read([&](SqlSession& sql) { return app_credential(sql, id); });
}

Result<std::optional<AppCredential>> AppCredentialStore::find(const std::string& user_id,
                                                              const std::string& name) const {
    return database_.read([&](SqlSession& sql) -> Result<std::optional<AppCredential>> {
        const auto row = TRY(sql.query_one(
            fmt::format("SELECT {} FROM identity_app_credentials WHERE user_id = ? AND name = ?",
                        kColumns),
            user_id, name));
        if (!row) {
            return std::optional<AppCredential>();
        }
        return std::optional(TRY(read(sql, *row)));
    });
}

Result<std::vector<AppCredential>> AppCredentialStore::list(const std::string& user_id) const {
    return database_.read([&](SqlSession& sql) -> Result<std::vector<AppCredential>> {
        std::vector<AppCredential> credentials;
        for (const SqlRow& row : TRY(sql.query(
                 fmt::format(
                     "SELECT {} FROM identity_app_credentials WHERE user_id = ? ORDER BY name",
                     kColumns),
                 user_id))) {
            credentials.push_back(TRY(read(sql, row)));
        }
        return credentials;
    });
}

Result<std::string> AppCredentialStore::secret_hash(const std::string& id) const {
    return database_.read([&](SqlSession& sql) -> Result<std::string> {
        const auto row =
            TRY(sql.query_one("SELECT secret_hash FROM identity_app_credentials WHERE id = ?", id));
        if (!row) {
            return not_found(id);
        }
        return row->text(0);
    });
}

Result<void> AppCredentialStore::remove(const std::string& user_id, const std::string& id) {
    TRY(database_.write([&](SqlSession& sql) -> Result<void> {
        if (TRY(sql.run("DELETE FROM identity_app_credentials WHERE user_id = ? AND id = ?",
                        user_id, id)) == 0) {
            return not_found(id);
        }
        return {};
    }));
    ++generation_;
    return {};
}

}  // namespace kumoi::compute::identity
