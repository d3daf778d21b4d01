// What the tests of service clients share: one client over real sockets against whatever serves at
// a URL, with a session of its own ("none") or with the tokens of a mini Keystone.
#pragma once

#include <string>
#include <vector>

#include "compute/clients/http_client.h"
#include "compute/clients/service_client.h"

namespace kumoi::clients {

struct ClientsWorld {
    explicit ClientsWorld(const std::string& name, const std::string& url,
                          const std::string& version_service = {})
        : service(name, {.endpoint_override = url, .version_service = version_service},
                  {&session, nullptr, transport}) {}

    // A user's request, as it comes over RPC.
    static compute::RequestContext user_context(const std::string& project_id) {
        auto wire = std::make_shared<Json>(Json::object({{"auth_token", "user-token"},
                                                         {"request_id", "req-user"},
                                                         {"project_id", project_id}}));
        return {.request_id = "req-user", .project_id = project_id, .wire = wire};
    }

    ManualClock clock;
    SeededRandom random{1};
    std::vector<int64_t> waits;
    HttpClient http{{.timeout_ms = 20'000}};
    RetryingTransport transport{http, {}, random, [this](int64_t ns) { waits.push_back(ns); }};
    KeystoneSession session{{.auth_type = "none"}, http, clock};
    ServiceClient service;
};

}  // namespace kumoi::clients
