#include "api/cluster_node.h"

#include "api/amqp/rpc_server.h"
#include "api/cluster/network_rpc.h"
#include "api/cluster/records.h"
#include "api/node_admin.h"
#include "api/node_driver.h"
#include "api/nova/compute_endpoint.h"
#include "api/nova/compute_id.h"
#include "api/nova/nova_live_migrations.h"
#include "api/nova/nova_moves.h"
#include "compute/network/node_network_fake.h"

namespace kumoi::api {
namespace {

const std::vector<std::string> kTopics = {"compute", "compute-alt"};

// What a server takes follows from its record here; there is no Placement.
class NoAllocations final : public nova::Allocations {
public:
    Result<void> remove(const compute::RequestContext&, const std::string&) override { return {}; }
    Result<void> move(const compute::RequestContext&, const std::string&,
                      const std::string&) override {
        return {};
    }
    Result<void> remove_from(const compute::RequestContext&, const std::string&,
                             const std::string&) override {
        return {};
    }
    Result<std::vector<std::string>> consumers_on(const std::string&) override {
        return std::vector<std::string>();
    }
};

// The controller's proxy reaches consoles of its own host alone.
class NoConsoles final : public nova::ConsolePorts {
public:
    Result<Json> connect(const Json&, const std::string& uuid,
                         const std::string& console_type) override {
        return Error::invalid("Server {} has no {} console for other hosts", uuid, console_type)
            .with_fault("ConsoleTypeUnavailable");
    }
    bool is_valid(const std::string&, const std::string&, const std::string&) override {
        return false;
    }
};

}  // namespace

struct ClusterNode::Parts {
    explicit Parts(const Shared& given)
        : shared(given),
          options(compute::ManagerOptions::from_config(given.config)),
          objects(given.rpc, cluster::objects()),
          network(given.rpc, options.host, given.clock, given.random),
          scheduler(given.rpc, cluster::objects(), options.host, given.clock, given.random, false),
          records(objects, given.clock, given.random,
                  {options.host, options.host, nova::Release::Gazpacho},
                  [this](const compute::ComputeNode& node, bool) { return network.report(node); }),
          conductor({objects, allocations, records, scheduler, given.clock, given.random, 0}),
          moves({conductor, objects, allocations, records, given.clock, given.random}),
          live({conductor, objects, allocations, records, given.clock, given.random, nullptr}) {}

    const Shared shared;
    const compute::ManagerOptions options;
    nova::ObjectClient objects;
    cluster::RemoteNetwork network;
    NoAllocations allocations;
    nova::SchedulerNews scheduler;
    nova::NodeRecords records;
    nova::NovaConductor conductor;
    nova::NovaMoves moves;
    nova::NovaLiveMigrations live;
    compute::ExternalEvents events;
    NoConsoles consoles;
    std::unique_ptr<compute::NodeNetwork> node_network;           // null without real devices
    std::unique_ptr<compute::NodeNetworkFake> node_network_fake;  // null with real devices
    NodeDriver node_driver;
    std::unique_ptr<compute::ComputeManager> manager;
    std::unique_ptr<nova::ComputeEndpoint> endpoint;
    std::unique_ptr<amqp::RpcServer> server;
    std::unique_ptr<amqp::RpcServer> news;  // of the network
    std::unique_ptr<AdminSocket> admin;

    Result<void> open_network();
    Result<void> open_manager();
};

Result<void> ClusterNode::Parts::open_network() {
    const Config& config = shared.config;
    if (!config.boolean("network", "real_devices")) {
        node_network_fake = std::make_unique<compute::NodeNetworkFake>(network);
        return {};
    }
    const compute::NodeNetworkOptions wanted{
        .folder = config.string("DEFAULT", "state_path") + "/network",
        .nat = config.boolean("network", "nat"),
        .address = config.string("DEFAULT", "my_ip")};
    node_network =
        TRY_CONTEXT(compute::NodeNetwork::create(wanted, network), "preparing this host's network");
    return {};
}

Result<void> ClusterNode::Parts::open_manager() {
    node_driver = TRY(
        make_node_driver(shared.config, shared.images, shared.clock, shared.random, options.host));
    compute::VifDriver* vifs = node_network_fake.get();
    if (node_network) {
        vifs = node_network.get();
    }
    compute::ComputeManager::Borders borders{conductor,           network,      *vifs,
                                             *node_driver.driver, shared.clock, shared.images};
    borders.moves = &moves;
    borders.live = &live;
    manager = TRY(compute::ComputeManager::create(borders, options));
    endpoint = std::make_unique<nova::ComputeEndpoint>(
        nova::ComputeEndpoint::Borders{*manager, conductor, objects, records, events, consoles});
    return {};
}

ClusterNode::ClusterNode(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

ClusterNode::~ClusterNode() {
    stop();
}

Result<std::unique_ptr<ClusterNode>> ClusterNode::open(const Shared& shared) {
    auto parts = std::make_unique<Parts>(shared);
    TRY_CONTEXT(nova::settle_compute_id(parts->records, parts->options.state_path),
                "finding this node's identity");
    TRY(parts->open_network());
    TRY(parts->open_manager());
    return std::unique_ptr<ClusterNode>(new ClusterNode(std::move(parts)));
}

Result<void> ClusterNode::start() {
    Parts& parts = *parts_;
    const std::string& host = parts.options.host;
    TRY_CONTEXT(parts.records.register_service(), "recording service nova-compute of host {}",
                host);
    TRY_CONTEXT(parts.manager->init_host(), "recovering this node");
    parts.server =
        std::make_unique<amqp::RpcServer>(parts.shared.transport, amqp::RpcServer::Settings{});
    parts.server->start(kTopics, host, [&parts](const amqp::RpcRequest& request) {
        return parts.endpoint->handle(request);
    });
    if (parts.node_network) {
        parts.news =
            std::make_unique<amqp::RpcServer>(parts.shared.transport, amqp::RpcServer::Settings{});
        parts.news->start({cluster::kNewsTopic}, host, [&parts](const amqp::RpcRequest& request) {
            return cluster::NetworkNews::deliver(request, *parts.node_network);
        });
    }
    parts.admin = TRY(open_node_admin(parts.options.state_path, parts.node_driver));
    parts.shared.loop.post([&parts] { parts.manager->start_periodic_tasks(parts.shared.loop); });
    return {};
}

void ClusterNode::stop() {
    parts_->admin.reset();
    for (auto* server : {&parts_->server, &parts_->news}) {
        if (*server) {
            (*server)->stop();
        }
    }
    if (parts_->manager) {
        parts_->manager->stop();
    }
}

compute::ComputeManager& ClusterNode::manager() {
    return *parts_->manager;
}

compute::NodeNetwork* ClusterNode::network() {
    return parts_->node_network.get();
}

}  // namespace kumoi::api
