// What every resource of the Compute API (v2.1) is built from: the services it may use, the Call it
// answers, and ComputeRoutes, which registers it. A resource file holds its handlers, parse →
// conductor → render, and one function that adds its routes.
//
//     Result<Reply> show_keypair(Call& call) {
//         TRY(call.authorize("os_compute_api:os-keypairs:show", {.user_id = user}));
//         ...
//         return Reply::json(...);
//     }
//     void add_keypair_routes(ComputeRoutes& routes) {
//         routes.add("GET", "/os-keypairs/{name}", show_keypair);
//     }
//
// Handlers run on the server's worker threads, many at once; nothing here changes after start.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/http/router.h"
#include "api/rest/auth_middleware.h"
#include "api/rest/microversion.h"
#include "api/rest/paging.h"
#include "api/rest/policy.h"
#include "base/clock.h"
#include "base/random.h"
#include "compute/conductor/conductor.h"

namespace kumoi::compute {
class ConsoleAuth;
}

namespace kumoi::api {

struct ComputeServices {
    compute::Conductor& conductor;
    const Clock& clock;
    Random& random;
    TokenValidator& tokens;
    std::string identity_uri;                  // told to clients without a token
    size_t osapi_max_limit = 1000;             // items on a page
    std::string image_uri = {};                // of the Image API, for addresses of images
    compute::ConsoleAuth* consoles = nullptr;  // null: there are none
};

// One request of one caller.
struct Call {
    Request& request;
    const AuthContext& who;
    Microversion version;
    const ComputeServices& services;
    const Policy& policy;

    compute::Conductor& conductor() const { return services.conductor; }
    compute::RequestContext context() const;
    const std::string& parameter(std::string_view name) const { return request.parameter(name); }
    bool at_least(int minor) const { return version.minor >= minor; }

    Result<void> authorize(std::string_view rule, const PolicyTarget& target = {}) const {
        return policy.authorize(who, rule, target);
    }
    bool allows(std::string_view rule, const PolicyTarget& target = {}) const {
        return policy.allows(who, rule, target);
    }
    Result<Json> body() const;  // 400 "Malformed request body" when it is none
    // The server named by {server_id}: 404 unless it belongs to the caller's project (or the caller
    // is an administrator), then the policy rule.
    Result<compute::InstancePtr> server(std::string_view rule) const;

    std::string versioned_url() const;                                   // "http://host:8774/v2.1"
    Json links(std::string_view collection, std::string_view id) const;  // self and bookmark
    Json bookmark(std::string_view collection, std::string_view id) const;  // the one of lists
};

struct VersionRange {
    int min = 1;
    int max = kMicroversionMax.minor;
};

class ComputeRoutes {
public:
    using Action = Result<Reply> (*)(Call& call);

    ComputeRoutes(Router& router, const ComputeServices& services, const Policy& policy)
        : router_(router), services_(services), policy_(policy) {}

    // `path` without the version: "/servers/{server_id}". Also reached with the project's id
    // between version and path. Outside its range the method does not exist (404), as in Nova.
    void add(std::string_view method, std::string_view path, Action action,
             VersionRange range = {});

private:
    Result<Reply> run(Request& request, Action action, VersionRange range) const;

    Router& router_;
    const ComputeServices& services_;
    const Policy& policy_;
};

// The whole API on port 8774, with authentication and microversions. `services` must outlive it.
Router make_compute_router(const ComputeServices& services);

}  // namespace kumoi::api
