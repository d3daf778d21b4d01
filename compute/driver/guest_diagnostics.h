// Nova's Diagnostics (microversion 2.48) of a guest from what its kumoi-vmm reports. A pure
// function.
#pragma once

#include "base/json.h"
#include "compute/objects.h"

namespace kumoi::compute {

// `state` and `statistics`: the answers to those control requests.
Json guest_diagnostics(const Instance& instance, const Json& state, const Json& statistics);

}  // namespace kumoi::compute
