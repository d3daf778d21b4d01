// The parts of the Network API, each adding its routes; and what they share.
#pragma once

#include <string_view>

#include "api/http/router.h"
#include "api/rest/auth_middleware.h"
#include "api/rest/fault.h"
#include "api/rest/network/network_api.h"
#include "base/clock.h"

namespace kumoi::api {

void add_network_discovery(Router& router);
void add_networks(Router& router, compute::NetworkService& service);
void add_subnets(Router& router, compute::NetworkService& service);
void add_ports(Router& router, compute::NetworkService& service);
void add_security_groups(Router& router, compute::NetworkService& service);
void add_network_tags(Router& router, compute::NetworkService& service);
void add_network_quotas(Router& router, compute::NetworkService& service);
void add_network_agents(Router& router, std::function<std::vector<NetworkAgent>()> agents);

// Reader or above, scoped to a project (or admin); the other: member or above.
Result<compute::RequestContext> reader_of(const Request& request);
Result<compute::RequestContext> writer_of(const Request& request);

Handler neutron(ResultHandler handler);

// Attributes every record has, in front of its own.
Json base_view(const compute::NetworkRecordBase& record);

}  // namespace kumoi::api
