// MemoryPlan: how the RAM of a machine lies in its memory file and on the host, worked out from its
// configuration: which part belongs to which NUMA node, how pages are made, where memory may be
// plugged later. place_memory() and populate_memory() do to mapped memory what the plan says.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "hypervisor/board/numa_tables.h"
#include "hypervisor/memory/hot_memory.h"
#include "hypervisor/memory/memory_host.h"
#include "hypervisor/memory_config.h"

namespace kumoi::hypervisor {

// The region behind boot memory where `max_bytes` in all fit.
HotMemoryPlan plan_hot_memory(uint64_t boot_bytes, uint64_t max_bytes);

// SRAT and SLIT of a machine with nodes or with memory to be plugged; else empty.
NumaLayout numa_layout(const MemoryConfig& config, uint64_t boot_bytes, uint32_t vcpus_max,
                       const HotMemoryPlan& hot);

// Binds and advises the mapped boot memory: once, before any page is there.
Result<void> place_memory(const MemoryConfig& config, std::span<std::byte> memory,
                          MemoryHost& host);
// Makes every page where the configuration asks for it, with so many threads.
Result<void> populate_memory(const MemoryConfig& config, std::span<std::byte> memory,
                             uint32_t threads, MemoryHost& host);

}  // namespace kumoi::hypervisor
