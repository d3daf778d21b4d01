// authenticate(): the middleware that turns X-Auth-Token into an AuthContext attached to the
// request, or answers 401 the way keystonemiddleware does. One per API; the validator (identity, in
// process) is shared and may be called from any thread.
//
//     router.use(authenticate(validator, {.identity_uri = "http://127.0.0.1:5000",
//                                         .open_routes = {"/", "/v2.1"}}));
//     const AuthContext& who = auth_of(request);      // in handlers behind it
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/http/router.h"
#include "api/rest/context.h"
#include "base/result.h"

namespace kumoi::api {

class TokenValidator {
public:
    virtual ~TokenValidator() = default;
    // Unauthenticated: unknown, expired or revoked. Microseconds; never a password hash. request_id
    // of the result is empty.
    virtual Result<AuthContext> validate(std::string_view token) = 0;
};

struct AuthOptions {
    std::string identity_uri;              // told to clients in WWW-Authenticate
    std::vector<std::string> open_routes;  // route patterns that need no token
    // Besides roles of the token, accept a service token (X-Service-Token): its role "service" is
    // added to the context when that token is valid and holds it.
    bool accept_service_token = true;
};

Middleware authenticate(TokenValidator& validator, AuthOptions options);

// The caller of a request behind authenticate(). Asserts that there is one.
const AuthContext& auth_of(const Request& request);
// nullptr on open routes without token.
const AuthContext* auth_if_any(const Request& request);

}  // namespace kumoi::api
