// An operator's word that a host is off for good, for a live migration that nobody can decide
// without it: the compute service there is forced down, and the other host decides alone then.
// Nothing but Nova's public API; an evacuation begins with the same. One thread.
#pragma once

#include <string>

#include "api/cli/cloud.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

// The host is a side of the server's live migration that is under way. Refused while its service
// answers: then it is not off.
Result<void> fence_host_of_migration(Cloud& cloud, const Json& server, const std::string& host);

// The host on which the server is, once its migration is over; empty while it is not.
Result<std::string> settled_host(Cloud& cloud, const std::string& server_id);

}  // namespace kumoi::cli
