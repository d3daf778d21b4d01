// Identity: the identity service: who may log in and what the resulting token is for. Owns the
// stores; the REST API (api/rest/identity) parses and renders around it. Any thread; authenticate()
// and everything with a password or secret blocks for tens of milliseconds.
//
//     auto identity = TRY(Identity::create(database, clock, random, {.token_seconds = 3600}));
//     auto issued = TRY(identity->authenticate(request));    // issued.secret is the X-Auth-Token
//     auto token = TRY(identity->tokens().validate(secret));
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/conductor/identity_app_credentials.h"
#include "compute/conductor/identity_catalog.h"
#include "compute/conductor/identity_grants.h"
#include "compute/conductor/identity_passwords.h"
#include "compute/conductor/identity_store.h"
#include "compute/conductor/identity_tokens.h"

namespace kumoi::compute::identity {

struct IdentityOptions {
    int64_t token_seconds = 3600;
    PasswordHashing hashing = {};
};

// By id, or by name in the default domain.
struct NameOrId {
    std::string id;
    std::string name;
};

struct PasswordMethod {
    NameOrId user;
    std::string password;
};

struct AppCredentialMethod {
    NameOrId credential;
    NameOrId user;  // needed with a credential name
    std::string secret;
};

enum class ScopeKind { Default, Unscoped, Project, Domain, System };

struct AuthRequest {
    std::optional<PasswordMethod> password;
    std::optional<std::string> token;
    std::optional<AppCredentialMethod> app_credential;
    ScopeKind scope = ScopeKind::Default;  // Default: the user's default project, else unscoped
    NameOrId project;                      // with ScopeKind::Project
};

struct NewAppCredential {
    std::string name;
    std::optional<std::string> description;
    std::optional<std::string> secret;  // none: one is made up
    std::vector<NameOrId> roles;        // empty: all roles of the token
    std::optional<int64_t> expires_ns;
    bool unrestricted = false;
};

class Identity {
public:
    static Result<std::unique_ptr<Identity>> create(Database& database, const Clock& clock,
                                                    Random& random, IdentityOptions options);

    // Unauthenticated without saying which part was wrong.
    Result<IssuedToken> authenticate(const AuthRequest& request);
    Result<User> create_user(User user, const std::optional<std::string>& password);
    Result<void> set_password(const std::string& user_id, const std::string& password);
    // Unauthenticated when `original` is wrong.
    Result<void> change_password(const std::string& user_id, const std::string& original,
                                 const std::string& password);
    // For the token's own user and project, with a subset of its roles. Returns the secret too.
    Result<std::pair<AppCredential, std::string>> create_app_credential(
        const Token& token, const NewAppCredential& wanted);

    IdentityStore& store() { return store_; }
    IdentityGrants& grants() { return grants_; }
    AppCredentialStore& app_credentials() { return app_credentials_; }
    IdentityCatalog& catalog() { return catalog_; }
    TokenStore& tokens() { return tokens_; }
    PasswordChecker& passwords() { return passwords_; }
    const Clock& clock() const { return clock_; }

private:
    // What the methods of a request proved.
    struct Proof {
        std::string user_id;
        std::vector<std::string> methods;
        TokenPtr parent;
        std::optional<AppCredential> credential;
    };
    Identity(Database& database, const Clock& clock, Random& random, IdentityOptions options);
    Result<Proof> prove(const AuthRequest& request);
    Result<std::string> prove_password(const PasswordMethod& method);
    Result<AppCredential> prove_app_credential(const AppCredentialMethod& method);
    Result<std::optional<Target>> choose_target(const AuthRequest& request, const Proof& proof);
    Result<Target> project_target(const NameOrId& project) const;
    Result<std::optional<User>> find_user(const NameOrId& who) const;

    const Clock& clock_;
    const IdentityOptions options_;
    Generation generation_{1};
    IdentityStore store_;
    IdentityGrants grants_;
    AppCredentialStore app_credentials_;
    IdentityCatalog catalog_;
    TokenStore tokens_;
    PasswordChecker passwords_;
};

}  // namespace kumoi::compute::identity
