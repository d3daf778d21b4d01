#include "scheduler/filters/disk_filter.h"

namespace kumoi::scheduler {

Verdict DiskFilter::host_passes(const HostState& host, const RequestSpec& spec) const {
    if (spec.disk_gb > host.disk_gb.usable()) {
        return Verdict::refuse("{} GiB usable, {} GiB requested", host.disk_gb.usable(),
                               spec.disk_gb);
    }
    return Verdict::pass();
}

}  // namespace kumoi::scheduler
