// The processor topology a guest sees: sockets of cores of threads, as CPUID leaves tell it. APIC
// ids are the vCPUs' numbers, so the counts that need bits of their own must be powers of two.
// Pure functions.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "hypervisor/resources_config.h"
#include "hypervisor/vcpu/cpu_model.h"

namespace kumoi::hypervisor {

// Threads of a core must be a power of two, and cores of a socket where there are several sockets.
Result<void> check_topology(const CpuTopology& topology);
// Rewrites the leaves of one vCPU's table; nothing when no topology is given.
void apply_topology(CpuidTable& table, const CpuTopology& topology, uint32_t index);

}  // namespace kumoi::hypervisor
