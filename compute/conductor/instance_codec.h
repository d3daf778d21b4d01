// The stored form of a server and of what hangs on it: plain values to JSON and back. A server is
// two documents: its definition (fixed at creation, holds the large parts) and its state (rewritten
// at every change). Unknown members are ignored and absent ones take their default, so an older or
// newer release can read the same database. Pure functions.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

Json flavor_to_json(const Flavor& flavor);
Flavor flavor_from_json(const Json& json);
Json compute_node_to_json(const ComputeNode& node);
ComputeNode compute_node_from_json(const Json& json);
Json requested_network_to_json(const RequestedNetwork& network);
RequestedNetwork requested_network_from_json(const Json& json);
Json properties_to_json(const Properties& properties);
Properties properties_from_json(const Json* json);

Json instance_definition_to_json(const Instance& instance);
Json instance_state_to_json(const Instance& instance);
// id, uuid, project_id and user_id are columns of their own; the caller sets them.
Instance instance_from_json(const Json& definition, const Json& state);

}  // namespace kumoi::compute
