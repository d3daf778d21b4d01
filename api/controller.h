// Controller: what a standalone control plane needs for other nodes: it answers their RPC as
// nova-conductor and as their network service, and reaches them by RPC. Wiring only; made when
// [DEFAULT] transport_url is set.
//
// One thread owns it.
#pragma once

#include <memory>

#include "api/amqp/rpc_client.h"
#include "api/amqp/transport.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/event_loop.h"
#include "base/metrics.h"
#include "base/random.h"
#include "compute/conductor/conductor.h"
#include "compute/network/network_service.h"

namespace kumoi::api {

class Controller {
public:
    // Outlives the controller.
    struct Shared {
        const Config& config;
        const Clock& clock;
        Random& random;
        Metrics& metrics;
        EventLoop& loop;
        compute::Database& database;
        compute::Conductor& conductor;
        compute::NetworkService& networks;
    };
    // Registers all nodes that are recorded.
    static Result<std::unique_ptr<Controller>> create(const Shared& shared);
    ~Controller();
    // Answers from now on.
    void start();
    void stop();
    // Consoles of this host's servers are reached without RPC.
    void set_local(const std::string& host, compute::ComputeApi& manager);

    amqp::Transport& transport();
    amqp::RpcClient& rpc();

private:
    struct Parts;
    explicit Controller(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

}  // namespace kumoi::api
