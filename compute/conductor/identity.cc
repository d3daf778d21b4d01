#include "compute/conductor/identity.h"

#include <algorithm>

#include "base/log.h"
#include "compute/conductor/identity_schema.h"

namespace kumoi::compute::identity {
namespace {

constexpr size_t kSecretBytesMin = 8;

Error refused() {
    return Error::unauthenticated("The request you have made requires authentication.");
}

// What is missing or disabled looks like a wrong password to whoever logs in.
template <class T>
Result<T> or_refused(Result<T> result) {
    if (!result.ok() && result.error().code == ErrorCode::NotFound) {
        return refused();
    }
    return result;
}

std::string subject_of(const NameOrId& who, const std::optional<User>& user) {
    return "user:" + (user ? user->id : (who.id.empty() ? who.name : who.id));
}

}  // namespace

Identity::Identity(Database& database, const Clock& clock, Random& random, IdentityOptions options)
    : clock_(clock),
      options_(std::move(options)),
      store_(database, random, generation_),
      grants_(database, generation_),
      app_credentials_(database, generation_),
      catalog_(database, store_),
      tokens_(database, clock, random, generation_),
      passwords_(clock, random, options_.hashing) {}

Result<std::unique_ptr<Identity>> Identity::create(Database& database, const Clock& clock,
                                                   Random& random, IdentityOptions options) {
    TRY(database.migrate("identity", schema()));
    return std::unique_ptr<Identity>(new Identity(database, clock, random, std::move(options)));
}

Result<IssuedToken> Identity::authenticate(const AuthRequest& request) {
    const Proof proof = TRY(prove(request));
    TokenRequest wanted{.user_id = proof.user_id, .methods = proof.methods};
    wanted.target = TRY(choose_target(request, proof));
    wanted.expires_ns = clock_.wall_ns() + options_.token_seconds * kNanosPerSecond;
    if (proof.parent) {
        // A chain of tokens lives no longer than its first.
        wanted.expires_ns = std::min(wanted.expires_ns, proof.parent->expires_ns);
        wanted.parent_audit_id = proof.parent->audit_ids.back();
    }
    if (proof.credential) {
        wanted.app_credential_id = proof.credential->id;
        wanted.expires_ns =
            std::min(wanted.expires_ns, proof.credential->expires_ns.value_or(wanted.expires_ns));
    }
    auto issued = tokens_.issue(wanted);
    if (!issued.ok() && issued.error().code == ErrorCode::Unauthenticated) {
        log_info("identity", "no token: nothing enabled to be scoped to",
                 {{"user", proof.user_id}});
        return refused();
    }
    return issued;
}

Result<Identity::Proof> Identity::prove(const AuthRequest& request) {
    Proof proof;
    const auto take = [&](const std::string& user_id, const char* method) -> Result<void> {
        if (!proof.user_id.empty() && proof.user_id != user_id) {
            return refused();  // the methods name different users
        }
        proof.user_id = user_id;
        if (std::find(proof.methods.begin(), proof.methods.end(), method) == proof.methods.end()) {
            proof.methods.emplace_back(method);
        }
        return {};
    };
    if (request.token) {
        proof.parent = TRY(or_refused(tokens_.validate(*request.token)));
        proof.methods = proof.parent->methods;
        proof.credential = proof.parent->app_credential;
        TRY(take(proof.parent->user.id, "token"));
    }
    if (request.password) {
        TRY(take(TRY(prove_password(*request.password)), "password"));
    }
    if (request.app_credential) {
        proof.credential = TRY(prove_app_credential(*request.app_credential));
        TRY(take(proof.credential->user_id, "application_credential"));
    }
    if (proof.user_id.empty()) {
        return Error::invalid("The request names no authentication method that is offered here.")
            .with_hint("Use password, token or application_credential.");
    }
    return proof;
}

Result<std::optional<User>> Identity::find_user(const NameOrId& who) const {
    if (who.id.empty()) {
        return store_.user_by_name(who.name);
    }
    auto user = store_.user(who.id);
    if (user.ok()) {
        return std::optional<User>(std::move(user).value());
    }
    if (user.error().code == ErrorCode::NotFound) {
        return std::optional<User>();
    }
    return user.error();
}

Result<std::string> Identity::prove_password(const PasswordMethod& method) {
    const auto user = TRY(find_user(method.user));
    const bool usable = user && user->enabled;
    const std::string hash = usable ? TRY(or_refused(store_.password_hash(user->id))) : "";
    TRY(passwords_.check(subject_of(method.user, user), method.password, hash));
    return user->id;
}

Result<AppCredential> Identity::prove_app_credential(const AppCredentialMethod& method) {
    std::optional<AppCredential> credential;
    if (!method.credential.id.empty()) {
        auto found = app_credentials_.get(method.credential.id);
        if (found.ok()) {
            credential = std::move(found).value();
        }
    } else if (const auto user = TRY(find_user(method.user))) {
        credential = TRY(app_credentials_.find(user->id, method.credential.name));
    }
    const bool expired =
        credential && credential->expires_ns && *credential->expires_ns <= clock_.wall_ns();
    std::string hash;
    if (credential && !expired) {
        hash = TRY(or_refused(app_credentials_.secret_hash(credential->id)));
    }
    const std::string subject =
        "credential:" +
        (credential ? credential->id : method.credential.id + method.user.id + method.user.name);
    TRY(passwords_.check(subject, method.secret, hash));
    return *credential;
}

Result<Target> Identity::project_target(const NameOrId& project) const {
    if (!project.id.empty()) {
        return Target{TargetKind::Project, project.id};
    }
    const auto found = TRY(store_.project_by_name(project.name));
    if (!found) {
        return refused();
    }
    return Target{TargetKind::Project, found->id};
}

Result<std::optional<Target>> Identity::choose_target(const AuthRequest& request,
                                                      const Proof& proof) {
    using Chosen = std::optional<Target>;
    if (proof.credential) {
        // An application credential is for one project; its tokens cannot be taken elsewhere.
        const Target own{TargetKind::Project, proof.credential->project_id};
        const bool same =
            request.scope == ScopeKind::Default ||
            (request.scope == ScopeKind::Project && TRY(project_target(request.project)) == own);
        if (!same) {
            return Error::forbidden("An application credential works in its own project only.")
                .with_hint("Leave the scope out of the request.");
        }
        return Chosen(own);
    }
    switch (request.scope) {
        case ScopeKind::Unscoped: return Chosen();
        case ScopeKind::Project: return Chosen(TRY(project_target(request.project)));
        case ScopeKind::Domain: return Chosen(Target{TargetKind::Domain, kDefaultDomainId});
        case ScopeKind::System: return Chosen(Target{TargetKind::System, "all"});
        case ScopeKind::Default: break;
    }
    if (proof.parent) {
        return Chosen();
    }
    const User user = TRY(or_refused(store_.user(proof.user_id)));
    if (!user.default_project_id) {
        return Chosen();
    }
    const Target target{TargetKind::Project, *user.default_project_id};
    const auto project = store_.project(target.id);
    const bool usable = project.ok() && project.value().enabled &&
                        !TRY(grants_.effective_roles(user.id, target)).empty();
    return usable ? Chosen(target) : Chosen();
}

Result<User> Identity::create_user(User user, const std::optional<std::string>& password) {
    const std::string hash = password ? TRY(passwords_.hash(*password)) : "";
    return store_.create_user(std::move(user), hash);
}

Result<void> Identity::set_password(const std::string& user_id, const std::string& password) {
    return store_.set_password_hash(user_id, TRY(passwords_.hash(password)));
}

Result<void> Identity::change_password(const std::string& user_id, const std::string& original,
                                       const std::string& password) {
    const User user = TRY(store_.user(user_id));
    TRY(passwords_.check("user:" + user_id, original,
                         user.enabled ? TRY(store_.password_hash(user_id)) : ""));
    return set_password(user_id, password);
}

Result<std::pair<AppCredential, std::string>> Identity::create_app_credential(
    const Token& token, const NewAppCredential& wanted) {
    if (!token.project) {
        return Error::invalid("An application credential needs a token scoped to a project.");
    }
    if (wanted.secret && wanted.secret->size() < kSecretBytesMin) {
        return Error::invalid("The secret has {} bytes, it needs at least {}.",
                              wanted.secret->size(), kSecretBytesMin);
    }
    if (wanted.expires_ns && *wanted.expires_ns <= clock_.wall_ns()) {
        return Error::invalid("The expiry {} is in the past.", iso8601(*wanted.expires_ns));
    }
    AppCredential credential{.id = store_.new_id(),
                             .user_id = token.user.id,
                             .project_id = token.project->id,
                             .name = wanted.name,
                             .description = wanted.description,
                             .roles = wanted.roles.empty() ? token.roles : std::vector<Role>(),
                             .expires_ns = wanted.expires_ns,
                             .unrestricted = wanted.unrestricted};
    for (const NameOrId& role : wanted.roles) {
        const auto held =
            std::find_if(token.roles.begin(), token.roles.end(), [&](const Role& candidate) {
                return role.id.empty() ? candidate.name == role.name : candidate.id == role.id;
            });
        if (held == token.roles.end()) {
            return Error::invalid("Role {} is not one of this token's roles.",
                                  role.id.empty() ? role.name : role.id)
                .with_hint("An application credential can hold no role its user does not hold.");
        }
        credential.roles.push_back(*held);
    }
    const std::string secret = wanted.secret.value_or(passwords_.random_secret());
    TRY(app_credentials_.create(credential, TRY(passwords_.hash(secret))));
    return std::pair(std::move(credential), secret);
}

}  // namespace kumoi::compute::identity
