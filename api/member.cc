#include "api/member.h"

#include <optional>

#include "api/amqp/amqp_rpc_client.h"
#include "api/cluster_node.h"
#include "api/daemon.h"
#include "api/nova/deployment.h"
#include "base/log.h"
#include "base/version.h"
#include "compute/clients/cloud_clients.h"

namespace kumoi::api {

struct Member::Parts {
    explicit Parts(const Config& configuration) : config(configuration), loop(clock) {}

    const Config config;
    SystemClock clock;
    SystemRandom random;
    Metrics metrics;
    EventLoop loop;
    UniqueFd state_lock;
    std::optional<StopSignals> signals;

    std::unique_ptr<amqp::Transport> transport;
    std::unique_ptr<amqp::AmqpRpcClient> rpc;
    std::unique_ptr<clients::CloudClients> cloud;
    std::unique_ptr<ClusterNode> node;
    std::unique_ptr<HttpServer> metrics_server;
};

Member::Member(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Member::~Member() {
    stop();
}

Result<std::unique_ptr<Member>> Member::create(const Config& config) {
    if (!config.is_set("DEFAULT", "transport_url")) {
        return Error::invalid("[DEFAULT] transport_url is missing")
            .with_hint(
                "A member reaches its controller over RabbitMQ: give it the controller's "
                "transport_url.");
    }
    auto parts = std::make_unique<Parts>(config);
    // First of all, so that every thread made from here on has the signals blocked.
    parts->signals = TRY(StopSignals::watch(parts->loop));
    keep_memory_small(parts->loop);
    parts->state_lock = TRY(lock_state(config.string("DEFAULT", "state_path")));
    parts->transport = TRY(amqp::Transport::create({parts->clock, parts->random, parts->metrics},
                                                   amqp::AmqpOptions::from_config(config)));
    parts->rpc = std::make_unique<amqp::AmqpRpcClient>(*parts->transport);
    parts->cloud = TRY(clients::CloudClients::create(config, {.clock = parts->clock,
                                                              .random = parts->random,
                                                              .metrics = &parts->metrics,
                                                              .images_only = true}));
    return std::unique_ptr<Member>(new Member(std::move(parts)));
}

Result<void> Member::start() {
    Parts& parts = *parts_;
    parts.metrics_server =
        TRY(start_server(parts.config, "metrics", make_metrics_router(parts.metrics), false,
                         {parts.clock, parts.random, parts.metrics}));
    TRY(nova::wait_for_conductor(*parts.rpc, parts.clock, parts.random, parts.loop));
    parts.node = TRY(ClusterNode::open({parts.config, parts.clock, parts.random, parts.loop,
                                        *parts.transport, *parts.rpc, parts.cloud->glance()}));
    TRY(parts.node->start());
    log_info("main", "ready", {{"version", kVersion}, {"mode", "member"}});
    return {};
}

void Member::run() {
    parts_->loop.run();
}

void Member::request_stop() {
    parts_->loop.stop();
}

void Member::stop() {
    if (parts_->node) {
        parts_->node->stop();
    }
    if (parts_->metrics_server) {
        parts_->metrics_server->stop();
    }
}

}  // namespace kumoi::api
