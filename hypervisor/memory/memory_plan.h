// MemoryPlan: how the RAM of a machine lies in its memory file and on the host, worked out from its
// configuration: which part belongs to which NUMA node, how pages are made, where memory may be
// plugged later. apply_memory_plan() does to mapped memory what the plan says.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "hypervisor/board/numa_tables.h"
#include "hypervisor/memory/hot_memory.h"
#include "hypervisor/memory/memory_host.h"
#include "hypervisor/resources_config.h"

namespace kumoi::hypervisor {

// The region behind boot memory where `max_bytes` in all fit.
HotMemoryPlan plan_hot_memory(uint64_t boot_bytes, uint64_t max_bytes, uint64_t page_size);

// SRAT and SLIT of a machine with nodes or with memory to be plugged; else empty.
NumaLayout numa_layout(const ResourcesConfig& resources, uint64_t boot_bytes, uint32_t vcpus_max,
                       const HotMemoryPlan& hot);

// Binds, advises and populates the mapped boot memory.
Result<void> apply_memory_plan(const ResourcesConfig& resources, std::span<std::byte> memory,
                               MemoryHost& host);

}  // namespace kumoi::hypervisor
