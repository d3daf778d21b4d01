// MemoryConfig: how a machine's RAM is backed on the host, which NUMA nodes the guest sees, and how
// far memory may grow (guest.json: memory, numa, memory_max_mib; docs/reference/resources.md).
// Plain values, checked against each other when parsed.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/resources_config.h"

namespace kumoi::hypervisor {

struct NumaNodeConfig {
    CpuList vcpus;
    uint64_t memory_mib = 0;
    std::optional<uint32_t> host_node;  // whose memory it is; absent: any
    std::vector<uint32_t> distances;    // to each node, itself included; empty: the usual ones
};

// How a migration learns which pages the vCPUs write. The ring must be there before they are.
enum class DirtyTracking { Auto, Bitmap, Ring };

struct MemoryConfig {
    uint64_t page_size = 0;  // bytes of the host's huge pages; 0: ordinary ones
    bool transparent_huge_pages = false;
    bool prealloc = false;  // every page is there before the guest starts
    uint32_t prealloc_threads = 1;
    std::vector<NumaNodeConfig> numa;  // empty: the guest hears nothing of nodes
    uint64_t max_mib = 0;              // memory may be plugged up to this; 0: none may
    DirtyTracking dirty_tracking = DirtyTracking::Auto;
};

// Reads the members above from the root object of a machine with so much memory and so many
// possible vCPUs.
Result<MemoryConfig> parse_memory_config(const JsonView& root, uint64_t memory_mib,
                                         uint32_t vcpus_max);

}  // namespace kumoi::hypervisor
