// What a node tells Placement beyond its sizes: the standard traits that are true of it, and how
// its processors divide into shared (VCPU) and dedicated (PCPU) ones. Pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "base/config.h"
#include "base/result.h"
#include "compute/clients/provider_tree.h"

namespace kumoi::nova {

// HW_CPU_X86_* and HW_CPU_HYPERTHREADING of Nova's cpu_info text.
clients::Traits cpu_traits(const std::string& cpu_info);
// What kumoi-vmm offers whatever the host: buses, card models, displays, firmware, architecture.
// Every name is in the os-traits of Zed.
const clients::Traits& guest_traits();

struct ProcessorShares {
    int64_t shared = 0;
    int64_t dedicated = 0;
};
// By [compute] cpu_shared_set and cpu_dedicated_set as Nova reads them: with a dedicated set and no
// shared one there are no shared processors; with neither all are shared. InvalidArgument for a
// text that is no set.
Result<ProcessorShares> processor_shares(const Config& config, int64_t host_processors);

}  // namespace kumoi::nova
