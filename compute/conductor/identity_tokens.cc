#include "compute/conductor/identity_tokens.h"

#include <algorithm>
#include <array>

#include "base/digest.h"
#include "base/log.h"
#include "compute/conductor/identity_app_credentials.h"
#include "compute/conductor/identity_grants.h"

namespace kumoi::compute::identity {
namespace {

constexpr size_t kCacheEntriesMax = 50'000;  // about 1 KiB each
constexpr int64_t kCleanupPeriodNs = 300 * kNanosPerSecond;

Error invalid_token() {
    return Error::unauthenticated("The token is unknown, expired or revoked.")
        .with_fault("TokenNotFound");
}

// Only what both the credential names and the user still holds.
std::vector<Role> restrict_to(std::vector<Role> held, const std::vector<Role>& allowed) {
    std::erase_if(held, [&](const Role& role) {
        return std::none_of(allowed.begin(), allowed.end(),
                            [&](const Role& other) { return other.id == role.id; });
    });
    return held;
}

Result<User> enabled_user(SqlSession& sql, const std::string& id) {
    const auto row = TRY(sql.query_one(
        fmt::format("SELECT {} FROM identity_users WHERE id = ? AND enabled = 1", kUserColumns),
        id));
    if (!row) {
        return invalid_token();
    }
    return read_user(*row);
}

Result<void> add_scope(SqlSession& sql, const Target& target, Token& token) {
    if (target.kind == TargetKind::Project) {
        const auto row = TRY(sql.query_one(
            fmt::format("SELECT {} FROM identity_projects WHERE id = ? AND enabled = 1",
                        kProjectColumns),
            target.id));
        if (!row) {
            return invalid_token();
        }
        token.project = read_project(*row);
    }
    token.domain_scope = target.kind == TargetKind::Domain;
    token.system_scope = target.kind == TargetKind::System;
    token.roles = TRY(effective_roles(sql, token.user.id, target));
    if (token.app_credential) {
        token.roles = restrict_to(std::move(token.roles), token.app_credential->roles);
    }
    if (token.roles.empty()) {
        return invalid_token();
    }
    return {};
}

std::optional<Target> target_of(const SqlRow& row, size_t scope_index, size_t project_index) {
    if (row.is_null(scope_index)) {
        return std::nullopt;
    }
    const auto kind = static_cast<TargetKind>(row.integer(scope_index));
    switch (kind) {
        case TargetKind::Project: return Target{kind, row.text(project_index)};
        case TargetKind::Domain: return Target{kind, kDefaultDomainId};
        case TargetKind::System: return Target{kind, "all"};
    }
    return std::nullopt;
}

}  // namespace

Result<IssuedToken> TokenStore::issue(const TokenRequest& request) {
    remove_expired_now_and_then();
    IssuedToken issued{.secret = secret_text(random_, 32), .token = nullptr};
    const std::string hash = digest_hex(DigestKind::Sha256, issued.secret);
    std::vector<std::string> audit_ids{secret_text(random_, 16)};
    if (request.parent_audit_id) {
        audit_ids.push_back(*request.parent_audit_id);
    }
    const bool in_project = request.target && request.target->kind == TargetKind::Project;
    const uint64_t generation = generation_.load();
    issued.token = TRY(database_.write([&](SqlSession& sql) -> Result<TokenPtr> {
        TRY(sql.run(
            "INSERT INTO identity_tokens(hash, user_id, project_id, scope, app_credential_id, "
            "methods, audit_ids, issued_ns, expires_ns) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
            hash, request.user_id,
            in_project ? std::optional(request.target->id) : std::optional<std::string>(),
            request.target ? std::optional(static_cast<int64_t>(request.target->kind))
                           : std::optional<int64_t>(),
            request.app_credential_id, to_json_list(request.methods), to_json_list(audit_ids),
            clock_.wall_ns(), request.expires_ns));
        return load(sql, hash);
    }));
    keep(hash, issued.token, generation);
    return issued;
}

Result<TokenPtr> TokenStore::load(SqlSession& sql, const std::string& hash) const {
    const auto row = TRY(
        sql.query_one("SELECT user_id, project_id, scope, app_credential_id, methods, audit_ids, "
                      "issued_ns, expires_ns FROM identity_tokens WHERE hash = ?",
                      hash));
    if (!row || row->integer(7) <= clock_.wall_ns()) {
        return invalid_token();
    }
    auto token = std::make_shared<Token>();
    token->user = TRY(enabled_user(sql, row->text(0)));
    token->methods = from_json_list(row->text(4));
    token->audit_ids = from_json_list(row->text(5));
    token->issued_ns = row->integer(6);
    token->expires_ns = row->integer(7);
    if (!row->is_null(3)) {
        token->app_credential = TRY(app_credential(sql, row->text(3)));
        const auto ends = token->app_credential->expires_ns;
        if (ends && *ends <= clock_.wall_ns()) {
            return invalid_token();
        }
    }
    if (const auto target = target_of(*row, 2, 1)) {
        TRY(add_scope(sql, *target, *token));
    }
    return TokenPtr(std::move(token));
}

Result<TokenPtr> TokenStore::validate(std::string_view secret) {
    const std::string hash = digest_hex(DigestKind::Sha256, secret);
    const uint64_t generation = generation_.load();
    {
        const std::shared_lock lock(mutex_);
        const auto found = cache_.find(hash);
        if (found != cache_.end() && found->second.generation == generation) {
            if (found->second.token->expires_ns <= clock_.wall_ns()) {
                return invalid_token();
            }
            return found->second.token;
        }
    }
    auto token = TRY(database_.read([&](SqlSession& sql) { return load(sql, hash); }));
    keep(hash, token, generation);
    return token;
}

// `generation` was read before the token was: had something changed since, the entry is born stale.
void TokenStore::keep(const std::string& hash, const TokenPtr& token, uint64_t generation) {
    const std::unique_lock lock(mutex_);
    if (cache_.size() >= kCacheEntriesMax) {
        cache_.clear();
    }
    cache_.insert_or_assign(hash, CacheEntry{token, generation});
}

Result<void> TokenStore::revoke(std::string_view secret) {
    const std::string hash = digest_hex(DigestKind::Sha256, secret);
    const int64_t gone = TRY(database_.write([&](SqlSession& sql) {
        return sql.run("DELETE FROM identity_tokens WHERE hash = ?", hash);
    }));
    // A concurrent validate() may have read the row before and keep it after: move the generation.
    ++generation_;
    {
        const std::unique_lock lock(mutex_);
        cache_.erase(hash);
    }
    if (gone == 0) {
        return Error::not_found("Could not find token.").with_fault("TokenNotFound");
    }
    return {};
}

Result<int64_t> TokenStore::remove_expired() {
    const int64_t now = clock_.wall_ns();
    const int64_t gone = TRY(database_.write([&](SqlSession& sql) {
        return sql.run("DELETE FROM identity_tokens WHERE expires_ns <= ?", now);
    }));
    const std::unique_lock lock(mutex_);
    std::erase_if(cache_, [&](const auto& item) { return item.second.token->expires_ns <= now; });
    return gone;
}

void TokenStore::remove_expired_now_and_then() {
    {
        const std::unique_lock lock(mutex_);
        if (clock_.monotonic_ns() < next_cleanup_ns_) {
            return;
        }
        next_cleanup_ns_ = clock_.monotonic_ns() + kCleanupPeriodNs;
    }
    const auto outcome = remove_expired();
    if (!outcome.ok()) {
        log_warn("identity", "expired tokens were not removed",
                 {{"error", outcome.error().text()}});
    }
}

}  // namespace kumoi::compute::identity
