// The Network API v2.0 (Neutron) of the standalone control plane: make_network_router() gives the
// router for port 9696. Handlers translate JSON to NetworkService and back; rules live there. Any
// thread. What we do not have (routers, floating addresses, subnet pools) is absent from
// /v2.0/extensions and answers 404, as a Neutron without that extension does.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "api/http/router.h"
#include "api/rest/auth_middleware.h"
#include "compute/network/network_service.h"

namespace kumoi::api {

// One host that carries networks, for /v2.0/agents.
struct NetworkAgent {
    std::string id;  // uuid
    std::string host;
    bool alive = false;
    int64_t created_ns = 0;
    int64_t heartbeat_ns = 0;
};

struct NetworkApiOptions {
    std::string identity_uri;
    std::function<std::vector<NetworkAgent>()> agents;  // any thread
};

// Everything given must outlive the router.
Router make_network_router(compute::NetworkService& service, TokenValidator& validator,
                           NetworkApiOptions options);

}  // namespace kumoi::api
