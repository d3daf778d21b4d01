// Finding a server, and waiting for it to get where it was sent while saying what happens. Polls:
// the Compute API pushes nothing.
#pragma once

#include <functional>
#include <string>

#include "api/cli/session.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

// The server of the caller's project with this name, id or unique beginning of either.
Result<Json> find_server(Session& session, const std::string& wanted);

// True when it has arrived; an Error gives up.
using Arrived = std::function<Result<bool>(const Json& server)>;

// The server as last seen. Timeout after session.options.wait_seconds; NotFound when it vanishes.
Result<Json> wait_for_server(Session& session, const std::string& id, const Arrived& arrived);
// Arrived when deleted.
Result<void> wait_for_deletion(Session& session, const std::string& id);

// "scheduling", "building (networking)", "active", "stopping": status and task in one word or two.
std::string phase_of(const Json& server);
// The first address, or "".
std::string first_address(const Json& server);
// The Error that a server in state ERROR stands for: its fault, with the scheduler's reasons.
Error fault_of(const Json& server);

}  // namespace kumoi::cli
