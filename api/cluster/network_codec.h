// What nodes and the network service tell each other, as JSON. Pure functions; what comes from the
// wire is checked.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "compute/network/node_records.h"
#include "compute/objects.h"

namespace kumoi::cluster {

Json network_to_json(const compute::NetworkSpec& network);
Result<compute::NetworkSpec> network_from_json(const Json& json);
Json port_to_json(const compute::PortSpec& port);
Result<compute::PortSpec> port_from_json(const Json& json);
Json server_to_json(const compute::Instance& instance);
compute::Instance server_from_json(const Json& json);

}  // namespace kumoi::cluster
