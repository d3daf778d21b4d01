#include "api/standalone.h"

#include <optional>
#include <vector>

#include "api/cluster_node.h"
#include "api/console/console_proxy.h"
#include "api/controller.h"
#include "api/daemon.h"
#include "api/http/server.h"
#include "api/node_admin.h"
#include "api/node_driver.h"
#include "api/rest/compute/compute_api.h"
#include "api/rest/identity/identity_api.h"
#include "api/rest/image/image_router.h"
#include "api/rest/metadata/metadata_service.h"
#include "api/rest/network/network_api.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "base/version.h"
#include "compute/conductor/conductor.h"
#include "compute/conductor/console_auth.h"
#include "compute/conductor/identity_bootstrap.h"
#include "compute/images/store_image_api.h"
#include "compute/manager/compute_manager.h"
#include "compute/network/network_service.h"
#include "compute/network/node_network.h"
#include "compute/network/node_network_fake.h"

namespace kumoi::api {

namespace {

constexpr int64_t kDrainTimeoutMs = 10'000;
// Of networks created without one: within VXLAN between nodes.
constexpr int64_t kMtu = 1500;
constexpr int64_t kTunnelledMtu = 1450;

}  // namespace

struct Standalone::Parts {
    explicit Parts(const Config& configuration) : config(configuration), loop(clock) {}

    const Config config;
    SystemClock clock;
    SystemRandom random;
    Metrics metrics;
    EventLoop loop;
    UniqueFd state_lock;
    std::optional<StopSignals> signals;

    std::unique_ptr<compute::Database> database;
    std::unique_ptr<compute::identity::Identity> identity;
    std::unique_ptr<IdentityTokenValidator> tokens;
    std::unique_ptr<compute::ImageStore> images;
    std::unique_ptr<compute::StoreImageApi> image_api;
    std::unique_ptr<compute::NetworkService> networks;
    std::unique_ptr<compute::NodeNetwork> node_network;           // null without real devices
    std::unique_ptr<compute::NodeNetworkFake> node_network_fake;  // null with real devices
    NodeDriver node_driver;
    std::unique_ptr<compute::Conductor> conductor;
    std::unique_ptr<compute::ComputeManager> manager;  // null in a cloud of several nodes
    std::unique_ptr<Controller> controller;            // null in a cloud of one node
    std::unique_ptr<ClusterNode> node;
    std::unique_ptr<AdminSocket> admin;  // null in a cloud of several nodes: the node's
    std::unique_ptr<compute::ConsoleAuth> consoles;
    std::unique_ptr<ConsoleProxy> console_proxy;  // null when all consoles are turned off
    std::unique_ptr<ComputeServices> compute_services;
    std::unique_ptr<MetadataService> metadata;  // null without real devices
    std::vector<std::unique_ptr<HttpServer>> servers;

    Result<void> open_control_plane();
    Result<void> open_network();
    bool has_members() const { return config.is_set("DEFAULT", "transport_url"); }
    Result<void> open_node();
    Result<void> start_node();
    compute::NodeNetwork* carrier() { return node ? node->network() : node_network.get(); }
    Result<void> open_consoles();
    Result<void> start_console_proxy();
    Result<void> add_server(const std::string& name, Router router, bool streams);
    Result<void> add_servers();
    std::vector<NetworkAgent> network_agents() const;
    std::string state(const std::string& name) const {
        return config.string("DEFAULT", "state_path") + "/" + name;
    }
    std::string identity_uri() const {
        return compute::identity::base_url(config.string("identity", "listen"),
                                           config.string("identity", "public_host"));
    }
    std::string image_uri() const {
        return compute::identity::base_url(config.string("image", "listen"),
                                           config.string("identity", "public_host"));
    }
    std::string console_uri() const {
        return compute::identity::base_url(config.string("vnc", "novncproxy_listen"),
                                           config.string("identity", "public_host"));
    }
    compute::VifDriver& vifs() {
        if (node_network) {
            return *node_network;
        }
        return *node_network_fake;
    }
};

Result<void> Standalone::Parts::open_control_plane() {
    database = TRY(compute::Database::open(state("kumoi.db")));
    identity = TRY(compute::identity::Identity::create(
        *database, clock, random,
        {.token_seconds = config.integer("identity", "token_expiration")}));
    TRY(compute::identity::bootstrap(*identity, compute::identity::bootstrap_options(config)));
    tokens = std::make_unique<IdentityTokenValidator>(*identity);
    const auto size_max = static_cast<uint64_t>(config.integer("image", "size_max_gb")) << 30;
    images = TRY(compute::ImageStore::create({.directory = state("images"), .size_max = size_max},
                                             *database, clock, random));
    image_api = std::make_unique<compute::StoreImageApi>(*images);
    return {};
}

Result<void> Standalone::Parts::open_network() {
    networks = TRY(
        compute::NetworkService::create(*database, clock, random,
                                        {.mtu = has_members() ? kTunnelledMtu : kMtu,
                                         .dns_servers = config.list("network", "dns_servers")}));
    if (has_members()) {
        return {};  // this host's is its node's
    }
    if (!config.boolean("network", "real_devices")) {
        node_network_fake = std::make_unique<compute::NodeNetworkFake>(*networks);
        return {};
    }
    const compute::NodeNetworkOptions options{.folder = state("network"),
                                              .nat = config.boolean("network", "nat")};
    node_network = TRY_CONTEXT(compute::NodeNetwork::create(options, *networks),
                               "preparing this host's network");
    networks->set_listener(node_network.get());
    return {};
}

Result<void> Standalone::Parts::open_node() {
    auto options = compute::ManagerOptions::from_config(config);
    compute::ConductorOptions conductor_options;
    conductor_options.controller_host = options.host;
    conductor_options.service_down_time_s = config.integer("DEFAULT", "service_down_time");
    conductor_options.allow_resize_to_same_host =
        config.boolean("DEFAULT", "allow_resize_to_same_host");
    conductor_options.resize_confirm_window_s = config.integer("DEFAULT", "resize_confirm_window");
    conductor_options.rescue_timeout_s = config.integer("DEFAULT", "rescue_timeout");
    conductor_options.shelved_offload_time_s = config.integer("DEFAULT", "shelved_offload_time");
    conductor_options.reclaim_instance_interval_s =
        config.integer("DEFAULT", "reclaim_instance_interval");
    conductor = TRY(compute::Conductor::create(conductor_options,
                                               {*database, clock, random, *image_api, *networks}));
    if (has_members()) {
        controller = TRY_CONTEXT(Controller::create({config, clock, random, metrics, loop,
                                                     *database, *conductor, *networks}),
                                 "connecting to this cloud's other nodes");
        return {};
    }
    node_driver = TRY(make_node_driver(config, *image_api, clock, random));
    const std::string host = options.host;
    manager = TRY(compute::ComputeManager::create(
        {*conductor, *networks, vifs(), *node_driver.driver, clock, *image_api},
        std::move(options)));
    conductor->register_host(host, *manager);
    return {};
}

Result<void> Standalone::Parts::open_consoles() {
    consoles = TRY(
        compute::ConsoleAuth::create(compute::ConsoleOptions::from_config(config, console_uri()),
                                     *database, clock, random, *conductor));
    return {};
}

Result<void> Standalone::Parts::start_console_proxy() {
    if (!config.boolean("vnc", "enabled") && !config.boolean("serial_console", "enabled")) {
        return {};
    }
    const std::string listen = config.string("vnc", "novncproxy_listen");
    const ListenAddress address = parse_listen(listen);
    ConsoleProxyOptions options;
    options.address = address.host;
    options.port = address.port;
    options.files = config.string("vnc", "novnc_path");
    options.allowed_origins = config.list("console", "allowed_origins");
    console_proxy = TRY_CONTEXT(
        ConsoleProxy::start(
            std::move(options),
            [this](std::string_view token) { return consoles->validate(token); }, clock, metrics),
        "console proxy on {} ([vnc] novncproxy_listen)", listen);
    return {};
}

Result<void> Standalone::Parts::add_server(const std::string& name, Router router, bool streams) {
    servers.push_back(
        TRY(start_server(config, name, std::move(router), streams, {clock, random, metrics})));
    return {};
}

Result<void> Standalone::Parts::add_servers() {
    const auto limit = static_cast<size_t>(config.integer("api", "osapi_max_limit"));
    compute_services = std::make_unique<ComputeServices>(ComputeServices{
        *conductor, clock, random, *tokens, identity_uri(), limit, image_uri(), consoles.get()});
    TRY(add_server("identity", make_identity_router(*identity, *tokens, identity_uri()), false));
    TRY(add_server("image", make_image_router({*images, *tokens, identity_uri()}), true));
    NetworkApiOptions network_options{identity_uri(), [this] { return network_agents(); }};
    TRY(add_server("network", make_network_router(*networks, *tokens, std::move(network_options)),
                   false));
    TRY(add_server("metrics", make_metrics_router(metrics), false));
    return add_server("compute", make_compute_router(*compute_services), false);
}

// Each node carries its own networks, so its compute service's signs of life are its agent's.
std::vector<NetworkAgent> Standalone::Parts::network_agents() const {
    std::vector<NetworkAgent> agents;
    for (const auto& service : conductor->services().services()) {
        if (service.binary == "nova-compute") {
            agents.push_back(
                {service.uuid, service.host, service.up, service.created_ns, service.last_seen_ns});
        }
    }
    return agents;
}

Standalone::Standalone(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Standalone::~Standalone() {
    stop();
}

Result<std::unique_ptr<Standalone>> Standalone::create(const Config& config) {
    auto parts = std::make_unique<Parts>(config);
    // First of all, so that every thread made from here on has the signals blocked.
    parts->signals = TRY(StopSignals::watch(parts->loop));
    keep_memory_small(parts->loop);
    parts->state_lock = TRY(lock_state(config.string("DEFAULT", "state_path")));
    TRY(parts->open_control_plane());
    TRY(parts->open_network());
    TRY(parts->open_node());
    TRY(parts->open_consoles());
    return std::unique_ptr<Standalone>(new Standalone(std::move(parts)));
}

// With members, this host's node is one of them: it asks the control plane as they do, by RPC.
Result<void> Standalone::Parts::start_node() {
    if (controller) {
        controller->start();
        node = TRY(ClusterNode::open(
            {config, clock, random, loop, controller->transport(), controller->rpc(), *image_api}));
        controller->set_local(conductor->options().controller_host, node->manager());
    }
    if (carrier() != nullptr) {
        metadata = TRY(MetadataService::create({*conductor, *networks, clock, random, metrics}));
        carrier()->set_bridge_listener(metadata.get());
    }
    if (node) {
        TRY(node->start());
        return conductor->reconcile();
    }
    TRY_CONTEXT(manager->init_host(), "recovering this node");
    TRY_CONTEXT(conductor->reconcile(), "recovering the control plane");
    admin = TRY(open_node_admin(config.string("DEFAULT", "state_path"), node_driver));
    manager->start_periodic_tasks(loop);
    return {};
}

Result<void> Standalone::start() {
    Parts& parts = *parts_;
    TRY(parts.start_node());
    TRY(parts.start_console_proxy());
    TRY(parts.add_servers());
    log_info("main", "ready", {{"version", kVersion}, {"identity", parts.identity_uri()}});
    return {};
}

void Standalone::run() {
    parts_->loop.run();
}

void Standalone::request_stop() {
    parts_->loop.stop();
}

void Standalone::stop() {
    Parts& parts = *parts_;
    for (auto& server : parts.servers) {
        if (const auto drained = server->drain(kDrainTimeoutMs); !drained.ok()) {
            log_warn("main", drained.error().text());
        }
        server->stop();
    }
    parts.servers.clear();
    parts.console_proxy.reset();
    parts.admin.reset();
    if (parts.manager) {
        parts.manager->stop();
    }
    if (parts.node) {
        parts.node->stop();
    }
    if (parts.controller) {
        parts.controller->stop();
    }
    if (parts.carrier() != nullptr) {
        parts.carrier()->set_bridge_listener(nullptr);
    }
    parts.metadata.reset();
}

}  // namespace kumoi::api
