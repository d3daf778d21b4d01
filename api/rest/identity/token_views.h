// A token and the service catalog in JSON, exactly as keystoneauth reads them.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "compute/conductor/identity.h"

namespace kumoi::api::identity {

// The array of services with their endpoints.
Result<Json> catalog_view(compute::identity::Identity& identity);
// What stands under "token". Unscoped tokens have no catalog and no roles.
Result<Json> token_view(compute::identity::Identity& identity,
                        const compute::identity::Token& token, bool with_catalog);

}  // namespace kumoi::api::identity
