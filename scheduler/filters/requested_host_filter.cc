#include "scheduler/filters/requested_host_filter.h"

namespace kumoi::scheduler {

Verdict RequestedHostFilter::host_passes(const HostState& host, const RequestSpec& spec) const {
    if (!spec.requested_host.empty() && spec.requested_host != host.host) {
        return Verdict::refuse("host {} was requested", spec.requested_host);
    }
    if (!spec.requested_node.empty() && spec.requested_node != host.node) {
        return Verdict::refuse("node {} was requested", spec.requested_node);
    }
    if (spec.ignored_hosts.contains(host.host)) {
        return Verdict::refuse("the build failed there before");
    }
    return Verdict::pass();
}

}  // namespace kumoi::scheduler
