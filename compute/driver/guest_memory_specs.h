// What a flavor's extra specs and an image's properties say about a guest's memory, as Nova has it:
// hw:mem_page_size and hw:numa_* become the members memory, numa and vcpu of guest.json. Pure
// functions but for host_numa_nodes(); docs/reference/resources.md has the table.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct HostNumaNode {
    int64_t id = 0;
    std::string cpus;  // kernel list format
};

// Of this host, those with processors; empty where the kernel does not say.
std::vector<HostNumaNode> host_numa_nodes(const std::string& folder = "/sys/devices/system/node");

// InvalidArgument, naming the property and its value.
Result<void> check_guest_memory(const Instance& instance);

// Adds what is asked for. A guest's nodes lie on host nodes of their own, memory and processors,
// where the host has as many; else anywhere. The instance has passed check_guest_memory().
void add_guest_memory(Json& guest, const Instance& instance, const std::vector<HostNumaNode>& host);

}  // namespace kumoi::compute
