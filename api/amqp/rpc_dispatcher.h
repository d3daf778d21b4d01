// RpcDispatcher: an RpcHandler made of endpoints, chosen as oslo.messaging chooses: same namespace,
// same major version, at least the minor version asked for. No endpoint speaks that version: fault
// "UnsupportedVersion". One does, and none has the method: "NoSuchMethod". A method whose name
// begins with "_" is nobody's. Set up before it is used; then safe from any thread.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "api/amqp/rpc_server.h"

namespace kumoi::amqp {

struct RpcEndpoint {
    std::string namespace_;
    std::string version;  // "6.5": 6.0 to 6.5
    std::set<std::string> methods;
    RpcHandler handler;
};

class RpcDispatcher {
public:
    void add(RpcEndpoint endpoint);
    // What every Nova service answers: baseapi 1.1 with ping and get_backdoor_port.
    void add_base_api(const std::string& service);
    void add_ping();  // oslo_rpc_server_ping, with rpc_ping_enabled

    Result<Json> operator()(const RpcRequest& request) const;

private:
    std::vector<RpcEndpoint> endpoints_;
    bool answers_ping_ = false;
};

// Whether an endpoint of version `offered` serves a request of version `wanted`.
bool version_serves(const std::string& offered, const std::string& wanted);

}  // namespace kumoi::amqp
