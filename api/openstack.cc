#include "api/openstack.h"

#include "api/amqp/amqp_rpc_client.h"
#include "api/amqp/rpc_server.h"
#include "api/daemon.h"
#include "api/node_driver.h"
#include "api/nova/compute_endpoint.h"
#include "api/nova/compute_id.h"
#include "api/nova/deployment.h"
#include "api/nova/nova_conductor.h"
#include "api/nova/nova_consoles.h"
#include "api/nova/placement_report.h"
#include "base/log.h"
#include "base/version.h"
#include "compute/clients/cloud_clients.h"
#include "compute/manager/compute_manager.h"
#include "compute/network/no_vifs.h"
#include "compute/network/vif_plug.h"

namespace kumoi::api {
namespace {

const std::vector<std::string> kTopics = {"compute", "compute-alt"};

}  // namespace

struct Openstack::Parts {
    explicit Parts(const Config& configuration)
        : config(configuration),
          loop(clock),
          options(compute::ManagerOptions::from_config(configuration)) {}

    const Config config;
    SystemClock clock;
    SystemRandom random;
    Metrics metrics;
    EventLoop loop;
    compute::ManagerOptions options;
    UniqueFd state_lock;
    std::optional<StopSignals> signals;

    std::unique_ptr<amqp::Transport> transport;
    std::unique_ptr<amqp::AmqpRpcClient> rpc;
    std::unique_ptr<clients::CloudClients> cloud;
    std::unique_ptr<nova::PlacementReport> placement;

    std::unique_ptr<nova::ObjectClient> objects;
    std::unique_ptr<nova::SchedulerNews> scheduler;
    std::unique_ptr<nova::NodeRecords> records;
    std::unique_ptr<nova::NovaConductor> conductor;
    compute::ExternalEvents events;
    std::unique_ptr<nova::NovaConsoles> consoles;

    NodeDriver node_driver;
    std::unique_ptr<compute::VifDriver> vifs;
    std::unique_ptr<compute::ComputeManager> manager;
    std::unique_ptr<nova::ComputeEndpoint> endpoint;
    std::unique_ptr<amqp::RpcServer> server;
    std::unique_ptr<HttpServer> metrics_server;

    Result<void> open_node();
};

Result<void> Openstack::Parts::open_node() {
    const nova::Release release =
        TRY(nova::find_release(*rpc, config.string("kumoi", "release"), clock, random));
    objects = std::make_unique<nova::ObjectClient>(*rpc, nova::ObjectTable::of(release));
    scheduler = std::make_unique<nova::SchedulerNews>(
        *rpc, objects->table(), options.host, clock, random,
        config.boolean("filter_scheduler", "track_instance_changes"));
    placement = std::make_unique<nova::PlacementReport>(config, cloud->make_report_client());
    const nova::NodeOptions node_options{options.host, options.host, release};
    records = std::make_unique<nova::NodeRecords>(
        *objects, clock, random, node_options,
        [this](const compute::ComputeNode& node, bool disabled) {
            return placement->update(node, disabled);
        });
    conductor = std::make_unique<nova::NovaConductor>(
        nova::NovaConductor::Borders{*objects, *placement, *records, *scheduler, clock, random});
    TRY_CONTEXT(nova::settle_compute_id(*records, options.state_path),
                "finding this node's identity");
    node_driver = TRY(make_node_driver(config, cloud->glance(), clock, random));
    compute::ExternalEvents* awaited = &events;
    if (node_driver.is_simulated()) {
        vifs = std::make_unique<compute::NoVifs>();
        awaited = nullptr;  // nobody wires their ports: there is no device for an agent to find
    } else {
        vifs = std::make_unique<compute::VifPlug>(compute::VifPlug::Options{});
    }
    manager = TRY(compute::ComputeManager::create(
        {*conductor, cloud->network(), *vifs, *node_driver.driver, clock, cloud->glance(), awaited},
        options));
    consoles = std::make_unique<nova::NovaConsoles>(nova::NovaConsoleOptions::from_config(config),
                                                    *objects, *manager, clock);
    endpoint = std::make_unique<nova::ComputeEndpoint>(nova::ComputeEndpoint::Borders{
        *manager, *conductor, *objects, *records, events, *consoles});
    return {};
}

Openstack::Openstack(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Openstack::~Openstack() {
    stop();
}

Result<std::unique_ptr<Openstack>> Openstack::create(const Config& config) {
    auto parts = std::make_unique<Parts>(config);
    // First of all, so that every thread made from here on has the signals blocked.
    parts->signals = TRY(StopSignals::watch(parts->loop));
    parts->state_lock = TRY(lock_state(parts->options.state_path));
    parts->transport = TRY(amqp::Transport::create({parts->clock, parts->random, parts->metrics},
                                                   amqp::AmqpOptions::from_config(config)));
    parts->rpc = std::make_unique<amqp::AmqpRpcClient>(*parts->transport);
    parts->cloud = TRY(clients::CloudClients::create(config, {parts->clock, parts->random}));
    return std::unique_ptr<Openstack>(new Openstack(std::move(parts)));
}

Result<void> Openstack::start() {
    Parts& parts = *parts_;
    parts.metrics_server =
        TRY(start_server(parts.config, "metrics", make_metrics_router(parts.metrics), false,
                         {parts.clock, parts.random, parts.metrics}));
    TRY(nova::wait_for_conductor(*parts.rpc, parts.clock, parts.random, parts.loop));
    TRY(parts.open_node());
    TRY_CONTEXT(parts.records->register_service(), "recording service nova-compute of host {}",
                parts.options.host);
    TRY_CONTEXT(parts.manager->init_host(), "recovering this node");
    parts.server = std::make_unique<amqp::RpcServer>(*parts.transport, amqp::RpcServer::Settings{});
    parts.server->start(kTopics, parts.options.host, [&parts](const amqp::RpcRequest& request) {
        return parts.endpoint->handle(request);
    });
    parts.manager->start_periodic_tasks(parts.loop);
    log_info("main", "ready", {{"version", kVersion}, {"host", parts.options.host}});
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
    if (parts.server) {
        parts.server->stop();
    }
    if (parts.manager) {
        parts.manager->stop();
    }
    if (parts.metrics_server) {
        parts.metrics_server->stop();
    }
}

}  // namespace kumoi::api
