#include "scheduler/weighers/soft_affinity_weigher.h"

namespace kumoi::scheduler {

double ServerGroupSoftAffinityWeigher::weigh(const HostState& host, const RequestSpec& spec) const {
    const auto members_here = static_cast<double>(spec.group_hosts.count(host.host));
    if (spec.group_policy == GroupPolicy::SoftAffinity) {
        return members_here;
    }
    return spec.group_policy == GroupPolicy::SoftAntiAffinity ? -members_here : 0.0;
}

}  // namespace kumoi::scheduler
