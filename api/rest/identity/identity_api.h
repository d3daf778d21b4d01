// The Identity API v3 (Keystone's): one router for its server, and the token validator that all
// four APIs share. Handlers parse, ask compute/conductor/identity and render; they run on HTTP
// worker threads, since a password check takes tens of milliseconds.
//
//     IdentityTokenValidator validator(*identity);
//     Router router = make_identity_router(*identity, validator, "http://127.0.0.1:5000");
#pragma once

#include <string>

#include "api/http/router.h"
#include "api/rest/auth_middleware.h"
#include "compute/conductor/identity.h"

namespace kumoi::api {

class IdentityTokenValidator final : public TokenValidator {
public:
    explicit IdentityTokenValidator(compute::identity::Identity& identity) : identity_(identity) {}
    Result<AuthContext> validate(std::string_view token) override;

private:
    compute::identity::Identity& identity_;
};

// `identity_uri`: what 401 answers name. All arguments must outlive the router.
Router make_identity_router(compute::identity::Identity& identity, TokenValidator& validator,
                            const std::string& identity_uri);

}  // namespace kumoi::api
