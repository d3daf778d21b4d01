// The body of POST /v3/auth/tokens, parsed: {"auth": {"identity": {"methods": [...], ...},
// "scope": ...}}. Pure. Errors name the place; a foreign domain is Unauthenticated, as a wrong user
// name is.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "compute/conductor/identity.h"

namespace kumoi::api::identity {

Result<compute::identity::AuthRequest> parse_auth_request(const Json& body);

}  // namespace kumoi::api::identity
