// The routes of the Identity API, one file a resource, and what they share. Only identity_api.cc
// and its neighbours include this.
#pragma once

#include <string>
#include <string_view>

#include "api/http/router.h"
#include "api/rest/auth_middleware.h"
#include "api/rest/fault.h"
#include "api/rest/policy.h"
#include "base/json.h"
#include "compute/conductor/identity.h"

namespace kumoi::api::identity {

using compute::identity::Identity;

void add_discovery_routes(Router& router);
void add_token_routes(Router& router, Identity& identity);
void add_project_routes(Router& router, Identity& identity);
void add_user_routes(Router& router, Identity& identity);
void add_role_routes(Router& router, Identity& identity);
void add_grant_routes(Router& router, Identity& identity);
void add_assignment_routes(Router& router, Identity& identity);
void add_app_credential_routes(Router& router, Identity& identity);
void add_catalog_routes(Router& router, Identity& identity);

// Keystone's rule names and who passes.
const Policy& policy();
// Is the caller of this request allowed to?
Result<void> authorize(const Request& request, std::string_view rule,
                       const PolicyTarget& target = {});

// Routes whose errors take Keystone's shape.
void route(Router& router, std::string_view method, std::string_view pattern,
           ResultHandler handler);

// The token the request was sent with.
Result<compute::identity::TokenPtr> token_of(Identity& identity, const Request& request);

// Body helpers. A name: 1 to 255 characters, not only spaces.
Result<std::string> read_name(const JsonView& object);
// `domain_id` must be absent, null or the default domain.
Result<void> check_domain_id(const JsonView& object);
// {"id": ...} or {"name": ...} of the default domain; another domain is NotFound.
Result<void> check_domain(const JsonView& domain);
// Absent: no change. Null: nullopt.
Result<void> read_optional_text(const JsonView& object, std::string_view key,
                                std::optional<std::string>& value);

}  // namespace kumoi::api::identity
