#include "scheduler/filters/compute_filter.h"

namespace kumoi::scheduler {

Verdict ComputeFilter::host_passes(const HostState& host, const RequestSpec&) const {
    if (!host.enabled) {
        return Verdict::refuse("compute service is disabled{}{}",
                               host.disabled_reason.empty() ? "" : ": ", host.disabled_reason);
    }
    if (!host.up) {
        return Verdict::refuse("compute service is down{}{}", host.down_reason.empty() ? "" : ": ",
                               host.down_reason);
    }
    return Verdict::pass();
}

}  // namespace kumoi::scheduler
