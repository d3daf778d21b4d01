// TokenStore: opaque bearer tokens. A token is 256 random bits as text; only its SHA-256 is
// stored, so the database holds nothing that could be presented. validate() answers from memory in
// about a microsecond; a miss reads SQLite. Roles are not stored with a token but found when it is
// loaded, and the cache is dropped whenever the identity generation moves: a revoked role works for
// no request that starts after the revocation was answered. Any thread.
#pragma once

#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/conductor/identity_records.h"
#include "compute/conductor/identity_store.h"

namespace kumoi::compute::identity {

struct TokenRequest {
    std::string user_id;
    std::optional<Target> target;  // none: unscoped
    std::optional<std::string> app_credential_id;
    std::vector<std::string> methods;
    std::optional<std::string> parent_audit_id;  // of the token it was made from
    int64_t expires_ns = 0;
};

struct IssuedToken {
    std::string secret;  // what the client presents; never stored
    TokenPtr token;
};

class TokenStore {
public:
    TokenStore(Database& database, const Clock& clock, Random& random, Generation& generation)
        : database_(database), clock_(clock), random_(random), generation_(generation) {}

    // Unauthenticated when the user has no role on the target, or either is disabled.
    Result<IssuedToken> issue(const TokenRequest& request);
    // Unauthenticated: unknown, expired, revoked, or its user, project or roles are gone.
    Result<TokenPtr> validate(std::string_view secret);
    Result<void> revoke(std::string_view secret);  // NotFound when there is no such token
    Result<int64_t> remove_expired();              // how many

private:
    struct CacheEntry {
        TokenPtr token;
        uint64_t generation;
    };
    Result<TokenPtr> load(SqlSession& sql, const std::string& hash) const;
    void keep(const std::string& hash, const TokenPtr& token, uint64_t generation);
    void remove_expired_now_and_then();

    Database& database_;
    const Clock& clock_;
    Random& random_;
    Generation& generation_;
    std::shared_mutex mutex_;  // guards cache_ and next_cleanup_ns_; never held across SQLite
    std::unordered_map<std::string, CacheEntry> cache_;
    int64_t next_cleanup_ns_ = 0;
};

}  // namespace kumoi::compute::identity
