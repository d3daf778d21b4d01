// What a flavor's extra specs and an image's properties say about a guest's processors and its
// share of the host's, in Nova's words: hw:cpu_{sockets,cores,threads} and their maxima become
// cpu.topology of guest.json, quota:cpu_* limits of the guest's control group. Pure functions;
// docs/reference/resources.md has the table.
#pragma once

#include <cstdint>

#include "base/json.h"
#include "base/result.h"
#include "compute/driver/guest_cgroup.h"
#include "compute/objects.h"

namespace kumoi::compute {

// InvalidArgument or Unsupported, naming the property and its value.
Result<void> check_guest_resources(const Instance& instance);

// Adds "cpu.topology" where one is asked for. The instance has passed check_guest_resources().
void add_guest_resources(Json& guest, const Instance& instance);

// Shares default to 1024 a vCPU. `overhead_mib`: memory beside the guest's RAM; 0: no limit.
GuestLimits guest_limits(const Instance& instance, int64_t overhead_mib);

}  // namespace kumoi::compute
