// The request context of Nova's RPC, without the `_context_` prefix (nova/context.py,
// NOVA-COMPUTE contract 2.1). One that came with a request is passed on as it is; the node's own
// work uses an admin context.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"
#include "compute/manager/conductor_api.h"

namespace kumoi::nova {

// Nobody's request: admin, no user, no project. `request_id` may be empty: then one is made.
Json admin_context(const Clock& clock, Random& random, const std::string& request_id = {});
// The same request with an administrator's rights (RequestContext.elevated).
Json elevated(Json context);
// What the manager needs of it; the whole travels along as `wire`.
compute::RequestContext request_context(Json context);
// What to send for a request of the manager: `wire`, or an admin context with its request id, user
// and project (after a restart nobody has the original any more).
Json wire_context(const compute::RequestContext& context, const Clock& clock, Random& random);

}  // namespace kumoi::nova
