// What a flavor's extra specs and an image's properties say about a guest's share of the host, in
// Nova's words: hw:mem_page_size, hw:numa_*, hw:cpu_{sockets,cores,threads} become members of
// guest.json, quota:cpu_* become limits of the guest's control group. Pure functions over records;
// docs/reference/resources.md has the table.
#pragma once

#include <cstdint>

#include "base/cgroup.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

// InvalidArgument or Unsupported, naming the property and its value.
Result<void> check_guest_resources(const Instance& instance);

// Adds "memory", "numa" and "cpu.topology" to a guest.json where they are asked for. `host_nodes`
// is how many NUMA nodes this host has: guest nodes are bound one to one where it has enough.
// The instance has passed check_guest_resources().
void add_guest_resources(Json& guest, const Instance& instance, uint32_t host_nodes);

// Shares default to 1024 a vCPU.
CgroupLimits guest_limits(const Instance& instance);

// /sys/devices/system/node/node*: how many; 1 where the kernel does not say.
uint32_t count_host_nodes(const std::string& folder = "/sys/devices/system/node");

}  // namespace kumoi::compute
