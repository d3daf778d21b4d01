// Names of the consolidation policies: a detector and a selector ("lr-mmt"), "dvfs" or "npa". Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sim/planetlab/day.h"

namespace kumoi::sim {

// All names, in a fixed order.
std::vector<std::string> policy_names();
// Sets power, detector (with its default parameter) and selector. InvalidArgument: names the
// nearest.
Result<DayOptions> policy_options(std::string_view name);

}  // namespace kumoi::sim
