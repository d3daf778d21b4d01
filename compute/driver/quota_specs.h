// Nova's flavor extra specs quota:disk_* and quota:vif_* as the "limits" members of guest.json
// (docs/reference/disks.md). Pure functions.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

// InvalidArgument, naming the extra spec: values that are no numbers or contradict each other.
Result<void> check_quota_specs(const Properties& extra_specs);

// Empty objects when the flavor limits nothing. For checked extra specs.
Json disk_limits(const Properties& extra_specs);
Json nic_limits(const Properties& extra_specs);

}  // namespace kumoi::compute
