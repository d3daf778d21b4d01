#include "scheduler/filters/server_group_filter.h"

namespace kumoi::scheduler {

Verdict ServerGroupFilter::host_passes(const HostState& host, const RequestSpec& spec) const {
    const auto members_here = static_cast<int64_t>(spec.group_hosts.count(host.host));
    if (spec.group_policy == GroupPolicy::Affinity && !spec.group_hosts.empty() &&
        members_here == 0) {
        return Verdict::refuse("the server group runs on {} (affinity)", *spec.group_hosts.begin());
    }
    if (spec.group_policy == GroupPolicy::AntiAffinity &&
        members_here >= spec.group_servers_per_host_max) {
        return Verdict::refuse(
            "{} member(s) of the server group run there, {} allowed (anti-affinity)", members_here,
            spec.group_servers_per_host_max);
    }
    return Verdict::pass();
}

}  // namespace kumoi::scheduler
