#include "api/controller.h"

#include <map>
#include <mutex>

#include "api/amqp/amqp_rpc_client.h"
#include "api/amqp/rpc_server.h"
#include "api/cluster/conductor_endpoint.h"
#include "api/cluster/network_rpc.h"
#include "api/cluster/remote_compute.h"
#include "base/log.h"
#include "base/worker_pool.h"

namespace kumoi::api {
namespace {

constexpr size_t kMoveThreads = 8;
constexpr size_t kMovesWaitingMax = 1024;
constexpr int64_t kPollPeriodNs = 60 * kNanosPerSecond;

}  // namespace

// Consoles of the controller's own servers: their sockets are here.
class NodeOfController final : public cluster::RemoteCompute {
public:
    NodeOfController(std::string host, const cluster::ComputeRpc& rpc)
        : RemoteCompute(std::move(host), rpc) {}
    void set_manager(compute::ComputeApi& manager) { manager_ = &manager; }

    Result<compute::ConsoleConnection> get_vnc_console(const Context& context,
                                                       const std::string& uuid) override {
        return manager_ == nullptr ? RemoteCompute::get_vnc_console(context, uuid)
                                   : manager_->get_vnc_console(context, uuid);
    }
    Result<compute::ConsoleConnection> get_serial_console(const Context& context,
                                                          const std::string& uuid) override {
        return manager_ == nullptr ? RemoteCompute::get_serial_console(context, uuid)
                                   : manager_->get_serial_console(context, uuid);
    }

private:
    compute::ComputeApi* manager_ = nullptr;  // of another host: null
};

struct Controller::Parts {
    explicit Parts(const Shared& given) : shared(given) {}

    const Shared shared;
    std::unique_ptr<amqp::Transport> transport;
    std::unique_ptr<amqp::AmqpRpcClient> rpc;
    std::unique_ptr<cluster::ConductorEndpoint> endpoint;
    std::optional<cluster::ComputeRpc> hosts_rpc;
    std::unique_ptr<cluster::RemoteMoves> moves;
    std::unique_ptr<cluster::NetworkEndpoint> network;
    std::unique_ptr<cluster::NetworkNews> news;
    std::mutex mutex;  // guards hosts
    std::map<std::string, std::unique_ptr<NodeOfController>> hosts;
    std::unique_ptr<amqp::RpcServer> conductor_server;
    std::unique_ptr<amqp::RpcServer> network_server;
    std::unique_ptr<WorkerPool> workers;

    NodeOfController& host(const std::string& name);
    Result<void> report(const compute::ComputeNode& node);
    std::vector<std::string> addresses() const;
    void poll();
    void tell_all_networks();
};

NodeOfController& Controller::Parts::host(const std::string& name) {
    const std::lock_guard lock(mutex);
    auto& entry = hosts[name];
    if (!entry) {
        entry = std::make_unique<NodeOfController>(name, *hosts_rpc);
        shared.conductor.register_host(name, *entry);
        log_info("cluster", "a node takes part", {{"host", name}});
    }
    return *entry;
}

std::vector<std::string> Controller::Parts::addresses() const {
    std::vector<std::string> all;
    for (const auto& record : shared.conductor.services().nodes()) {
        if (!record.node.host_ip.empty()) {
            all.push_back(record.node.host_ip);
        }
    }
    return all;
}

// What Nova's ComputeNode has no place for, and where the others find this node.
Result<void> Controller::Parts::report(const compute::ComputeNode& node) {
    const auto before = addresses();
    TRY(shared.conductor.compute_node_update(node));
    if (addresses() != before) {
        tell_all_networks();
    }
    return {};
}

void Controller::Parts::tell_all_networks() {
    compute::RequestContext admin;
    admin.is_admin = true;
    const auto networks = shared.networks.list_networks(admin, {});
    if (networks.ok()) {
        std::vector<std::string> ids;
        for (const auto& one : *networks) {
            ids.push_back(one.id);
        }
        news->nodes_changed(ids);
    }
}

// What happens to servers by the passing of time; the nodes leave it to us.
void Controller::Parts::poll() {
    const auto queued = workers->submit([this] {
        for (const auto& service : shared.conductor.services().services()) {
            if (service.binary == "nova-compute" && service.up) {
                const auto polled = shared.conductor.poll_servers(service.host);
                if (!polled.ok()) {
                    log_warn("cluster", "servers were not looked after",
                             {{"host", service.host}, {"why", polled.error().text()}});
                }
            }
        }
    });
    if (!queued.ok()) {
        log_warn("cluster", "too many moves wait", {{"why", queued.error().text()}});
    }
    shared.loop.call_after(kPollPeriodNs, [this] { poll(); });
}

Controller::Controller(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Controller::~Controller() {
    stop();
}

Result<std::unique_ptr<Controller>> Controller::create(const Shared& shared) {
    auto made = std::make_unique<Parts>(shared);
    Parts& parts = *made;
    parts.transport = TRY(amqp::Transport::create({shared.clock, shared.random, shared.metrics},
                                                  amqp::AmqpOptions::from_config(shared.config)));
    parts.rpc = std::make_unique<amqp::AmqpRpcClient>(*parts.transport);
    parts.endpoint = TRY(cluster::ConductorEndpoint::create(
        {shared.conductor, shared.database,
         [&parts](const std::string& host) { parts.host(host); }}));
    parts.hosts_rpc.emplace(cluster::ComputeRpc{*parts.rpc, *parts.endpoint, shared.conductor,
                                                shared.clock, shared.random});
    parts.moves = std::make_unique<cluster::RemoteMoves>(*parts.hosts_rpc);
    parts.network = std::make_unique<cluster::NetworkEndpoint>(cluster::NetworkEndpoint::Borders{
        shared.networks, [&parts] { return parts.addresses(); },
        [&parts](const compute::ComputeNode& node) { return parts.report(node); }});
    parts.news = std::make_unique<cluster::NetworkNews>(*parts.rpc, shared.clock, shared.random);
    shared.networks.set_listener(parts.news.get());
    parts.workers = std::make_unique<WorkerPool>("moves", kMoveThreads, kMovesWaitingMax);
    shared.conductor.set_moves(*parts.moves, [&parts](std::function<void()> work) {
        return parts.workers->submit(std::move(work));
    });
    for (const auto& service : shared.conductor.services().services()) {
        if (service.binary == "nova-compute") {
            parts.host(service.host);
        }
    }
    return std::unique_ptr<Controller>(new Controller(std::move(made)));
}

void Controller::start() {
    Parts& parts = *parts_;
    const std::string& name = parts.shared.conductor.options().controller_host;
    const auto serve = [&](const char* topic, amqp::RpcHandler handler) {
        auto server =
            std::make_unique<amqp::RpcServer>(*parts.transport, amqp::RpcServer::Settings{});
        server->start({topic}, name, std::move(handler));
        return server;
    };
    parts.conductor_server = serve("conductor", [&parts](const amqp::RpcRequest& request) {
        return parts.endpoint->handle(request);
    });
    parts.network_server = serve(cluster::kNetworkTopic, [&parts](const amqp::RpcRequest& request) {
        return parts.network->handle(request);
    });
    parts.shared.loop.call_after(kPollPeriodNs, [&parts] { parts.poll(); });
}

void Controller::stop() {
    Parts& parts = *parts_;
    if (parts.workers) {
        parts.workers->stop();
    }
    for (auto* server : {&parts.conductor_server, &parts.network_server}) {
        if (*server) {
            (*server)->stop();
        }
    }
}

void Controller::set_local(const std::string& host, compute::ComputeApi& manager) {
    parts_->host(host).set_manager(manager);
}

amqp::Transport& Controller::transport() {
    return *parts_->transport;
}

amqp::RpcClient& Controller::rpc() {
    return *parts_->rpc;
}

}  // namespace kumoi::api
