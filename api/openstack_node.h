// OpenstackNode: one compute host of a real OpenStack: its records, resource provider, driver,
// manager and RPC queues, on what all hosts of the process share. `kumoi-compute` has one,
// `kumoi-compute --fleet N` has N. Wiring only.
//
//     auto node = TRY(OpenstackNode::open(shared, NodeSettings::from_config(config)));
//     TRY(node->start());       // registers, recovers, serves
//     node->stop();             // guests live on
//
// One thread calls open(), start() and stop(). The loop and shared pools have ended before it is
// destroyed.
#pragma once

#include <memory>
#include <string>

#include "api/amqp/notifier.h"
#include "api/amqp/rpc_client.h"
#include "api/amqp/transport.h"
#include "api/nova/object_client.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/event_loop.h"
#include "base/random.h"
#include "base/worker_pool.h"
#include "compute/clients/cloud_clients.h"
#include "compute/manager/compute_manager.h"

namespace kumoi::api {

// Outlives all nodes.
struct NodeShared {
    const Config& config;
    const Clock& clock;
    Random& random;
    EventLoop& loop;  // periodic work
    amqp::Transport& transport;
    amqp::RpcClient& rpc;
    clients::CloudClients& cloud;
    nova::ObjectClient& objects;
    nova::Release release;
    amqp::Notifier* notifier = nullptr;
    // Threads of all nodes; null: each node has its own.
    WorkerPool* requests = nullptr;
    std::optional<compute::ComputeManager::Pools> pools = std::nullopt;
};

struct NodeSettings {
    compute::ManagerOptions options;  // with the host's name and its state_path
    bool durable = true;              // its journal outlives a power cut
    bool consoles = true;
    double first_period = 1;  // share of each interval before periodic work runs first

    static NodeSettings from_config(const Config& config);
};

class OpenstackNode {
public:
    static Result<std::unique_ptr<OpenstackNode>> open(const NodeShared& shared,
                                                       NodeSettings settings);
    ~OpenstackNode();
    Result<void> start();
    void stop();

private:
    struct Parts;
    explicit OpenstackNode(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

}  // namespace kumoi::api
