#include "scheduler/filters/ram_filter.h"

namespace kumoi::scheduler {

Verdict RamFilter::host_passes(const HostState& host, const RequestSpec& spec) const {
    if (spec.memory_mb > host.memory_mb.total) {
        return Verdict::refuse("{} MiB requested, the host has {} MiB in all", spec.memory_mb,
                               host.memory_mb.total);
    }
    if (spec.memory_mb > host.memory_mb.usable()) {
        return Verdict::refuse("{} MiB usable, {} MiB requested", host.memory_mb.usable(),
                               spec.memory_mb);
    }
    return Verdict::pass();
}

}  // namespace kumoi::scheduler
