#include "scheduler/filters/availability_zone_filter.h"

namespace kumoi::scheduler {

Verdict AvailabilityZoneFilter::host_passes(const HostState& host, const RequestSpec& spec) const {
    if (spec.availability_zone.empty() || spec.availability_zone == host.availability_zone) {
        return Verdict::pass();
    }
    return Verdict::refuse("is in zone {}, zone {} requested", host.availability_zone,
                           spec.availability_zone);
}

}  // namespace kumoi::scheduler
