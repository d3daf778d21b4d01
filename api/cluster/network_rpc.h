// The network of a cloud of several nodes. The controller's NetworkService answers all of them:
// NetworkEndpoint is its end of the wire, RemoteNetwork a node's. What changed there is told to all
// nodes (NetworkNews), which read again what is theirs. Also the node's own report of itself, where
// Nova's objects have no place for it. Any thread; RemoteNetwork blocks for round trips.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "api/amqp/rpc_client.h"
#include "api/amqp/rpc_server.h"
#include "base/clock.h"
#include "base/random.h"
#include "compute/manager/network_api.h"
#include "compute/network/network_service.h"
#include "compute/network/node_records.h"

namespace kumoi::cluster {

constexpr char kNetworkTopic[] = "kumoi-network";      // the controller's
constexpr char kNewsTopic[] = "kumoi-network-agents";  // all nodes'

class NetworkEndpoint {
public:
    struct Borders {
        compute::NetworkService& networks;
        std::function<std::vector<std::string>()> addresses;  // of all nodes
        std::function<Result<void>(const compute::ComputeNode& node)> report;
    };
    explicit NetworkEndpoint(Borders borders) : borders_(std::move(borders)) {}
    Result<Json> handle(const amqp::RpcRequest& request);

private:
    Result<Json> of_server(const amqp::RpcRequest& request);
    Result<Json> of_node(const amqp::RpcRequest& request);
    Result<Json> port_plugged(const Json& args);
    Result<Json> network(const std::string& id);
    const Borders borders_;
};

class NetworkNews final : public compute::NetworkListener {
public:
    NetworkNews(amqp::RpcClient& rpc, const Clock& clock, Random& random)
        : rpc_(rpc), clock_(clock), random_(random) {}
    void network_changed(const std::string& network_id) override;
    void port_changed(const std::string& port_id) override;
    void security_group_changed(const std::string& group_id) override;
    // A node has come: the others must know where it is.
    void nodes_changed(const std::vector<std::string>& network_ids);

    // A node's end.
    static Result<Json> deliver(const amqp::RpcRequest& request, compute::NetworkListener& node);

private:
    void tell(const char* method, const std::string& id);
    amqp::RpcClient& rpc_;
    const Clock& clock_;
    Random& random_;
};

class RemoteNetwork final : public compute::NetworkApi, public compute::NetworkRecords {
public:
    using Context = compute::RequestContext;
    using Instance = compute::Instance;
    using VifInfo = compute::VifInfo;
    using RequestedNetwork = compute::RequestedNetwork;

    RemoteNetwork(amqp::RpcClient& rpc, std::string host, const Clock& clock, Random& random)
        : rpc_(rpc), host_(std::move(host)), clock_(clock), random_(random) {}

    Result<std::vector<VifInfo>> allocate_for_instance(
        const Context& context, const Instance& instance,
        const std::vector<RequestedNetwork>& requested) override;
    Result<void> deallocate_for_instance(const Context& context, const Instance& instance) override;
    Result<VifInfo> allocate_port_for_instance(const Context& context, const Instance& instance,
                                               const RequestedNetwork& requested) override;
    Result<void> deallocate_port_for_instance(const Context& context, const Instance& instance,
                                              const std::string& port_id) override;
    Result<std::vector<VifInfo>> network_info(const std::string& instance_uuid) override;
    Result<void> rebind(const Context& context, const Instance& instance,
                        const std::string& host) override;
    Result<void> unbind(const Context& context, const Instance& instance) override;
    Result<void> activate_bindings(const Context& context, const Instance& instance,
                                   const std::string& host) override {
        return rebind(context, instance, host);
    }

    Result<compute::NetworkSpec> node_network(const std::string& network_id) override;
    Result<compute::PortSpec> node_port(const std::string& port_id) override;
    Result<std::vector<std::string>> security_group_addresses(const std::string& id) override;
    Result<void> port_plugged(const std::string& port_id, bool plugged) override;

    Result<void> report(const compute::ComputeNode& node);

private:
    Result<Json> call(const Json& context, const char* method, Json args);
    Result<Json> call_for(const Context& context, const char* method, const Instance& instance,
                          Json args = Json::object());

    amqp::RpcClient& rpc_;
    const std::string host_;
    const Clock& clock_;
    Random& random_;
};

}  // namespace kumoi::cluster
