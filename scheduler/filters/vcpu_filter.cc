#include "scheduler/filters/vcpu_filter.h"

namespace kumoi::scheduler {

Verdict VcpuFilter::host_passes(const HostState& host, const RequestSpec& spec) const {
    if (spec.vcpus > host.vcpus.total) {
        return Verdict::refuse("{} vCPUs requested for one server, the host has {} CPUs",
                               spec.vcpus, host.vcpus.total);
    }
    if (spec.vcpus > host.vcpus.usable()) {
        return Verdict::refuse("{} vCPUs usable, {} requested", host.vcpus.usable(), spec.vcpus);
    }
    return Verdict::pass();
}

}  // namespace kumoi::scheduler
