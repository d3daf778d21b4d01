// What http://169.254.169.254 answers: the EC2 and OpenStack metadata of the server that asks. Who
// asks is known from the network it came in on and its source address, which the packet filter
// keeps honest; headers such as X-Forwarded-For or X-Instance-ID are the guest's own words and are
// not read. Any thread.
#pragma once

#include <string>

#include "api/http/router.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/random.h"
#include "compute/manager/conductor_api.h"
#include "compute/manager/instance_metadata.h"
#include "compute/network/network_service.h"

namespace kumoi::api {

// Attached to each request by the listener.
struct MetadataPeer {
    std::string network_id;
    std::string address;
};

struct MetadataDependencies {
    compute::ConductorApi& conductor;
    compute::NetworkService& networks;
    const Clock& clock;
    Random& random;
    Metrics& metrics;
};

// Everything given must outlive the router.
Router make_metadata_router(const MetadataDependencies& dependencies,
                            compute::MetadataOptions options = {});

}  // namespace kumoi::api
