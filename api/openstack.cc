#include "api/openstack.h"

#include "api/amqp/amqp_rpc_client.h"
#include "api/daemon.h"
#include "api/fleet.h"
#include "api/nova/deployment.h"
#include "api/openstack_node.h"
#include "base/log.h"
#include "base/version.h"

namespace kumoi::api {

struct Openstack::Parts {
    explicit Parts(const Config& configuration) : config(configuration), loop(clock) {}

    const Config config;
    std::optional<FleetOptions> fleet_options;
    SystemClock clock;
    SystemRandom random;
    Metrics metrics;
    EventLoop loop;
    UniqueFd state_lock;
    std::optional<StopSignals> signals;

    std::unique_ptr<amqp::Transport> transport;
    std::unique_ptr<amqp::AmqpRpcClient> rpc;
    std::unique_ptr<amqp::Notifier> notifier;
    std::unique_ptr<clients::CloudClients> cloud;
    std::unique_ptr<nova::ObjectClient> objects;

    std::unique_ptr<OpenstackNode> node;  // or a fleet
    std::unique_ptr<Fleet> fleet;
    std::unique_ptr<HttpServer> metrics_server;

    Result<void> start_nodes();
};

Result<void> Openstack::Parts::start_nodes() {
    const nova::Release release =
        TRY(nova::find_release(*rpc, config.string("kumoi", "release"), clock, random));
    objects = std::make_unique<nova::ObjectClient>(*rpc, nova::ObjectTable::of(release));
    const NodeShared shared{config, clock,  random,   loop,    *transport,
                            *rpc,   *cloud, *objects, release, notifier.get()};
    if (fleet_options) {
        fleet = std::make_unique<Fleet>(shared, *fleet_options, metrics);
        fleet->start();
        return {};
    }
    node = TRY(OpenstackNode::open(shared, NodeSettings::from_config(config)));
    return node->start();
}

Openstack::Openstack(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Openstack::~Openstack() {
    stop();
}

Result<std::unique_ptr<Openstack>> Openstack::create(const Config& config, int64_t fleet) {
    auto parts = std::make_unique<Parts>(config);
    if (fleet != 0) {
        parts->fleet_options = TRY(FleetOptions::from_config(config, fleet));
        raise_descriptor_limit();
    }
    // First of all, so that every thread made from here on has the signals blocked.
    parts->signals = TRY(StopSignals::watch(parts->loop));
    keep_memory_small(parts->loop);
    parts->state_lock = TRY(lock_state(config.string("DEFAULT", "state_path")));
    parts->transport = TRY(amqp::Transport::create({parts->clock, parts->random, parts->metrics},
                                                   amqp::AmqpOptions::from_config(config)));
    parts->notifier = TRY(amqp::Notifier::create(*parts->transport));
    parts->rpc = std::make_unique<amqp::AmqpRpcClient>(*parts->transport);
    parts->cloud = TRY(clients::CloudClients::create(
        config, {.clock = parts->clock, .random = parts->random, .metrics = &parts->metrics}));
    return std::unique_ptr<Openstack>(new Openstack(std::move(parts)));
}

Result<void> Openstack::start() {
    Parts& parts = *parts_;
    parts.metrics_server =
        TRY(start_server(parts.config, "metrics", make_metrics_router(parts.metrics), false,
                         {parts.clock, parts.random, parts.metrics}));
    TRY(nova::wait_for_conductor(*parts.rpc, parts.clock, parts.random, parts.loop));
    TRY(parts.start_nodes());
    log_info(
        "main", "ready",
        {{"version", kVersion}, {"host", compute::ManagerOptions::from_config(parts.config).host}});
    return {};
}

void Openstack::run() {
    parts_->loop.run();
}

void Openstack::request_stop() {
    parts_->loop.stop();
}

void Openstack::stop() {
    Parts& parts = *parts_;
    if (parts.node) {
        parts.node->stop();
    }
    if (parts.fleet) {
        parts.fleet->stop();
    }
    if (parts.metrics_server) {
        parts.metrics_server->stop();
    }
}

}  // namespace kumoi::api
