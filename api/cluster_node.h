// ClusterNode: one node of a standalone cloud of several: its records by RPC at the controller, its
// own driver, manager, bridges and RPC queues. The controller has one in its own process, a member
// is one (mode = member). Wiring only.
//
//     auto node = TRY(ClusterNode::open(shared, options));
//     TRY(node->start());       // registers, recovers, serves; the controller must answer
//     node->stop();             // guests live on
//
// One thread calls open(), start() and stop().
#pragma once

#include <memory>

#include "api/amqp/rpc_client.h"
#include "api/amqp/transport.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "compute/manager/compute_manager.h"
#include "compute/manager/image_api.h"
#include "compute/network/node_network.h"

namespace kumoi::api {

class ClusterNode {
public:
    // Outlives the node.
    struct Shared {
        const Config& config;
        const Clock& clock;
        Random& random;
        EventLoop& loop;  // periodic work
        amqp::Transport& transport;
        amqp::RpcClient& rpc;
        compute::ImageApi& images;
    };
    static Result<std::unique_ptr<ClusterNode>> open(const Shared& shared);
    ~ClusterNode();
    Result<void> start();
    void stop();

    compute::ComputeManager& manager();
    compute::NodeNetwork* network();  // nullptr without real devices

private:
    struct Parts;
    explicit ClusterNode(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

}  // namespace kumoi::api
