// CpuPinning: which host processors a guest's vCPUs may use (Nova's [compute] cpu_dedicated_set and
// cpu_shared_set, hw:cpu_policy).
//
// A dedicated guest has a processor of its own for each vCPU as long as its folder is there, also
// while it is stopped: what its guest.json says is the allocation. Its threads beside vCPUs share
// these. All threads of the other guests stay in the shared set. assign_cpus() and the writing of
// guest.json belong together under one lock, which is the caller's.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/driver/cpu_set.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct CpuPools {
    CpuSet dedicated;  // empty: no dedicated guests here
    CpuSet shared;     // empty: any
};

// InvalidArgument or Unsupported: a policy we do not have, or that image and flavor disagree on.
Result<void> check_cpu_policy(const Instance& instance);
bool wants_dedicated_cpus(const Instance& instance);

// Sets "vcpu" and "io_affinity" of a guest.json. `mine`: what the guest was given before, or null.
// `others`: the guest.json of the other guests. Exhausted when too few processors are free.
Result<void> assign_cpus(Json& guest, const Instance& instance, const CpuPools& pools,
                         const Json& mine, const std::vector<Json>& others);

}  // namespace kumoi::compute
