#include "scheduler/weighers/disk_weigher.h"

namespace kumoi::scheduler {

double DiskWeigher::weigh(const HostState& host, const RequestSpec&) const {
    return static_cast<double>(host.disk_gb.usable());
}

}  // namespace kumoi::scheduler
