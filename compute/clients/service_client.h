// ServiceClient: requests to one service of the cloud, in a user's name or in our own. It finds the
// endpoint, adds the tokens, the request id and the microversion, retries with a budget, and renews
// our token once when the service refuses it. Thread safe. The service's own meaning of paths and
// bodies is in placement_client.h, neutron_client.h, glance_client.h and cinder_client.h.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "compute/clients/http_retry.h"
#include "compute/clients/keystone_session.h"
#include "compute/manager/conductor_api.h"

namespace kumoi::clients {

// In whose name a request is made. Without a user's token it is made in our own.
struct Caller {
    std::string request_id;  // "req-<uuid>"; travels as X-Openstack-Request-Id
    std::string user_token;
    std::string project_id;
    // The endpoints the user may use; shared with the request's context, which may end earlier.
    std::shared_ptr<const ServiceCatalog> catalog;

    // The same request in our own name, as Nova's admin clients make it.
    Caller as_service() const { return {request_id, {}, project_id, nullptr}; }
};

// `wire` is the context as it came over RPC (compute::RequestContext::wire), with the user's token.
Caller caller_from_wire(const Json* wire, std::string request_id, std::string project_id);
Caller caller_of(const compute::RequestContext& context);

struct ServiceRequest {
    std::string method = "GET";
    std::string path;  // below the endpoint, with its query: "/v2.0/ports?device_id=..."
    std::optional<Json> body = {};
    std::string microversion = {};  // "1.28"; empty: the service's oldest
    HttpHeaders headers = {};
    HttpSource source = {};
    std::optional<uint64_t> source_length = {};
    HttpSink sink = {};
    HttpHead head = {};
    std::optional<int64_t> timeout_ms = {};
    std::optional<RetryPolicy> retries = {};  // instead of the service's
};

class ServiceClient {
public:
    struct Parts {
        // nullptr: no credentials of our own; every caller must bring a token.
        KeystoneSession* session = nullptr;
        // nullptr: no service tokens ([service_user] send_service_user_token is off).
        KeystoneSession* service_user = nullptr;
        RetryingTransport& transport;
    };

    // What `parts` points to must outlive this. `name` is for messages: "Neutron".
    ServiceClient(std::string name, ServiceOptions options, Parts parts)
        : name_(std::move(name)), options_(std::move(options)), parts_(parts) {}

    // Any HTTP status is a reply; an error only without one, without a token or without an
    // endpoint.
    Result<HttpReply> send(const Caller& caller, const ServiceRequest& request);
    Result<std::string> endpoint(const Caller& caller);  // without a slash at the end

    const std::string& name() const { return name_; }
    const ServiceOptions& options() const { return options_; }

private:
    struct Tokens {
        std::string user;  // of the user or ours
        std::string service;
        bool user_is_ours = false;
    };

    Result<std::string> own_project(const Caller& caller);
    Result<Tokens> tokens_for(const Caller& caller);
    Result<HttpReply> send_once(const Caller& caller, const ServiceRequest& request,
                                const Tokens& tokens);

    const std::string name_;
    const ServiceOptions options_;
    const Parts parts_;
};

}  // namespace kumoi::clients
