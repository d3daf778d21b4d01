#include "scheduler/weighers/ram_weigher.h"

namespace kumoi::scheduler {

double RAMWeigher::weigh(const HostState& host, const RequestSpec&) const {
    return static_cast<double>(host.memory_mb.usable());
}

}  // namespace kumoi::scheduler
