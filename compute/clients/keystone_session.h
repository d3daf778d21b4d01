// KeystoneSession: one identity at Keystone (a section's user) with its current token. token()
// answers from memory until shortly before the token expires; then one thread fetches the next
// while the others wait for it. Thread safe; token() and endpoint() block for one exchange at
// most. Many clients, and many nodes of a fleet, share one session.
//
//     KeystoneSession session(AuthOptions::from_config(config, "placement"), http, clock);
//     auto token = TRY(session.token());           // token->id goes into X-Auth-Token
//     ... 401 from the service ...
//     session.forget(token->id);                   // whoever comes first renews it, once
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "compute/clients/client_options.h"
#include "compute/clients/http_types.h"
#include "compute/clients/service_catalog.h"

namespace kumoi::clients {

struct KeystoneToken {
    std::string id;
    int64_t issued_ns = 0;
    int64_t expires_ns = 0;
    std::string user_id, user_name, project_id, project_name;
    std::vector<std::string> roles;
    ServiceCatalog catalog;

    // The body of POST or GET /v3/auth/tokens.
    static Result<KeystoneToken> parse(const Json& body, std::string id);
};

// The body of POST /v3/auth/tokens for these options. Error: something needed is missing.
Result<Json> auth_request(const AuthOptions& options);
// "http://host/identity" and ".../v3/" both give "http://host/identity/v3".
std::string identity_v3_url(std::string auth_url);

class KeystoneSession {
public:
    // transport and clock must outlive this.
    KeystoneSession(AuthOptions options, HttpTransport& transport, const Clock& clock)
        : options_(std::move(options)), transport_(transport), clock_(clock) {}

    // Shared, because the token may be renewed while a caller still reads the old one.
    Result<std::shared_ptr<const KeystoneToken>> token();
    // The service refused this token: it is not used any more.
    void forget(const std::string& token_id);
    Result<std::string> endpoint(const ServiceOptions& service);
    // What Keystone knows of somebody else's token; Unauthenticated when it is none (any more).
    Result<KeystoneToken> validate(const std::string& user_token, bool allow_expired);

    const AuthOptions& options() const { return options_; }
    bool without_tokens() const { return options_.auth_type == "none"; }

private:
    Result<KeystoneToken> authenticate();
    std::shared_ptr<const KeystoneToken> fresh_token() const;

    const AuthOptions options_;
    HttpTransport& transport_;
    const Clock& clock_;
    std::mutex renewal_mutex_;  // held while a new token is fetched
    mutable std::mutex mutex_;
    std::shared_ptr<const KeystoneToken> token_;
};

}  // namespace kumoi::clients
