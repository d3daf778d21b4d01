#include "scheduler/weighers/cpu_weigher.h"

namespace kumoi::scheduler {

double CPUWeigher::weigh(const HostState& host, const RequestSpec&) const {
    return static_cast<double>(host.vcpus.usable());
}

}  // namespace kumoi::scheduler
