#include "api/openstack_node.h"

#include "api/amqp/rpc_server.h"
#include "api/node_admin.h"
#include "api/node_driver.h"
#include "api/node_volumes.h"
#include "api/nova/compute_endpoint.h"
#include "api/nova/compute_id.h"
#include "api/nova/node_extras.h"
#include "api/nova/nova_conductor.h"
#include "api/nova/nova_consoles.h"
#include "api/nova/nova_live_migrations.h"
#include "api/nova/nova_moves.h"
#include "api/nova/periodic_tasks.h"
#include "api/nova/placement_report.h"
#include "api/nova/server_records.h"
#include "api/nova/vif_records.h"
#include "compute/network/no_vifs.h"
#include "compute/network/vif_plug.h"

namespace kumoi::api {
namespace {

const std::vector<std::string> kTopics = {"compute", "compute-alt"};

class NeutronAddresses final : public nova::PortAddresses {
public:
    explicit NeutronAddresses(clients::NeutronNetwork& network) : network_(network) {}
    Result<void> add_fixed_ip(const compute::RequestContext& context,
                              const compute::Instance& instance,
                              const std::string& network_id) override {
        return network_.add_fixed_ip(context, instance, network_id);
    }
    Result<void> remove_fixed_ip(const compute::RequestContext& context,
                                 const compute::Instance& instance,
                                 const std::string& address) override {
        return network_.remove_fixed_ip(context, instance, address);
    }

private:
    clients::NeutronNetwork& network_;
};

}  // namespace

NodeSettings NodeSettings::from_config(const Config& config) {
    NodeSettings settings;
    settings.options = compute::ManagerOptions::from_config(config);
    return settings;
}

struct OpenstackNode::Parts {
    Parts(const NodeShared& given, NodeSettings wanted)
        : shared(given), settings(std::move(wanted)) {}

    const NodeShared shared;
    const NodeSettings settings;

    std::unique_ptr<nova::PlacementReport> placement;
    std::unique_ptr<nova::SchedulerNews> scheduler;
    std::unique_ptr<nova::NodeRecords> records;
    std::unique_ptr<nova::InstanceNotifications> notifications;
    std::unique_ptr<nova::NovaConductor> conductor;
    std::unique_ptr<nova::NovaMoves> moves;
    std::unique_ptr<nova::NovaLiveMigrations> live;
    compute::ExternalEvents events;
    std::unique_ptr<nova::NovaConsoles> consoles;
    std::unique_ptr<nova::UsageAudit> audit;
    std::unique_ptr<nova::PeriodicTasks> tasks;
    std::unique_ptr<nova::VifRecords> network;

    NodeDriver node_driver;
    std::unique_ptr<compute::VifDriver> vifs;
    std::unique_ptr<NodeVolumes> volumes;
    std::unique_ptr<compute::ComputeManager> manager;
    std::unique_ptr<nova::NodeExtras> extras;
    std::unique_ptr<nova::ServerRecords> server_records;
    std::unique_ptr<NeutronAddresses> addresses;
    std::unique_ptr<nova::FixedIps> fixed_ips;
    std::unique_ptr<nova::HostPower> host_power;
    std::unique_ptr<nova::ComputeEndpoint> endpoint;
    std::unique_ptr<amqp::RpcServer> server;
    std::unique_ptr<AdminSocket> admin;

    compute::PeriodicOptions periodic_options() const;
    Result<void> open_records();
    Result<void> open_manager();
};

compute::PeriodicOptions OpenstackNode::Parts::periodic_options() const {
    auto periodic = compute::PeriodicOptions::from_config(shared.config);
    if (shared.release != nova::Release::Zed &&
        !shared.config.is_set("DEFAULT", "heal_instance_info_cache_interval")) {
        periodic.heal_info_cache_interval_s = -1;  // that release's default
    }
    return periodic;
}

Result<void> OpenstackNode::Parts::open_records() {
    const std::string& host = settings.options.host;
    scheduler = std::make_unique<nova::SchedulerNews>(
        shared.rpc, shared.objects.table(), host, shared.clock, shared.random,
        shared.config.boolean("filter_scheduler", "track_instance_changes"));
    placement = std::make_unique<nova::PlacementReport>(
        shared.config, shared.cloud.make_report_client(), shared.release,
        shared.config.string("DEFAULT", "compute_driver") != "simulated",
        TRY(clients::load_provider_configs(
            shared.config.string("compute", "provider_config_location"))));
    records = std::make_unique<nova::NodeRecords>(
        shared.objects, shared.clock, shared.random, nova::NodeOptions{host, host, shared.release},
        [this](const compute::ComputeNode& node, bool disabled) {
            return placement->update(node, disabled);
        });
    if (shared.notifier != nullptr) {
        amqp::Notifier& notifier = *shared.notifier;
        using Format = amqp::Notifier::Format;
        notifications = std::make_unique<nova::InstanceNotifications>(
            nova::InstanceNotifications::Sink{
                [&notifier](Format format) { return notifier.wants(format); },
                [&notifier](Format format, const std::string& priority,
                            const std::string& publisher, const std::string& event_type,
                            const Json& payload, const Json& context) {
                    notifier.notify(format, priority, publisher, event_type, payload, context);
                }},
            shared.release, host, shared.config.string("glance", "endpoint_override"),
            shared.clock);
    }
    conductor = std::make_unique<nova::NovaConductor>(nova::NovaConductor::Borders{
        shared.objects, *placement, *records, *scheduler, shared.clock, shared.random,
        periodic_options().scheduler_sync_interval_s, notifications.get()});
    moves = std::make_unique<nova::NovaMoves>(nova::NovaMoves::Borders{
        *conductor, shared.objects, *placement, *records, shared.clock, shared.random});
    live = std::make_unique<nova::NovaLiveMigrations>(
        nova::NovaLiveMigrations::Borders{*conductor, shared.objects, *placement, *records,
                                          shared.clock, shared.random, notifications.get()});
    TRY_CONTEXT(nova::settle_compute_id(*records, settings.options.state_path),
                "finding this node's identity");
    return {};
}

Result<void> OpenstackNode::Parts::open_manager() {
    const Clock& clock = shared.clock;
    node_driver = TRY(make_node_driver(shared.config, shared.cloud.glance(), clock, shared.random,
                                       settings.options.host));
    compute::ExternalEvents* awaited = &events;
    if (node_driver.is_simulated()) {
        vifs = std::make_unique<compute::NoVifs>();
        awaited = nullptr;  // nobody wires their ports: there is no device for an agent to find
    } else {
        vifs = std::make_unique<compute::VifPlug>(compute::VifPlug::Options{
            .integration_bridge = shared.config.string("neutron", "ovs_bridge")});
    }
    compute::JournalOptions journal;
    journal.sync = settings.durable;
    const compute::PeriodicOptions periodic = periodic_options();
    if (periodic.usage_audit) {
        TRY_CONTEXT(nova::last_audit_period(periodic.usage_audit_period, clock.wall_ns()),
                    "[DEFAULT] instance_usage_audit_period");
        audit = std::make_unique<nova::UsageAudit>(
            nova::UsageAudit::Borders{shared.objects, *records, notifications.get(), clock,
                                      shared.random},
            periodic.usage_audit_period);
    }
    tasks = std::make_unique<nova::PeriodicTasks>(
        nova::PeriodicTasks::Borders{shared.objects, *conductor, *records, *node_driver.driver,
                                     clock, shared.random, audit.get()},
        periodic);
    network = std::make_unique<nova::VifRecords>(shared.cloud.network(), shared.objects, clock,
                                                 shared.random);
    compute::ComputeManager::Borders borders{
        *conductor, *network,    *vifs, *node_driver.driver, clock, shared.cloud.glance(),
        awaited,    shared.pools};
    borders.tasks = tasks.get();
    volumes = TRY(NodeVolumes::create(shared.config, settings.options, shared.objects,
                                      shared.cloud.cinder(), clock, shared.random,
                                      node_driver.is_simulated()));
    borders.volumes = &volumes->services();
    borders.moves = moves.get();
    borders.live = live.get();
    server_records = std::make_unique<nova::ServerRecords>(nova::ServerRecords::Borders{
        *conductor, shared.objects, *records, clock, shared.random,
        !shared.config.boolean("workarounds", "disable_group_policy_check_upcall"),
        notifications.get()});
    borders.cloud = server_records.get();
    manager = TRY(compute::ComputeManager::create(borders, settings.options, std::move(journal)));
    tasks->set_manager(*manager);
    auto console_options = nova::NovaConsoleOptions::from_config(shared.config);
    console_options.vnc_enabled &= settings.consoles;
    console_options.serial_enabled &= settings.consoles;
    consoles = std::make_unique<nova::NovaConsoles>(std::move(console_options), shared.objects,
                                                    *manager, clock);
    extras = std::make_unique<nova::NodeExtras>(
        *conductor, settings.options.host, shared.cloud.glance(), node_driver.image_cache.get(),
        node_driver.keeps_qcow2, node_driver.inject_nmi, clock);
    addresses = std::make_unique<NeutronAddresses>(shared.cloud.network());
    fixed_ips = std::make_unique<nova::FixedIps>(
        nova::FixedIps::Borders{*addresses, *conductor, *manager, clock});
    if (!node_driver.is_simulated()) {
        host_power = std::make_unique<nova::HostPower>(nova::HostPower::from_config(shared.config));
    }
    endpoint = std::make_unique<nova::ComputeEndpoint>(
        nova::ComputeEndpoint::Borders{*manager, *conductor, shared.objects, *records, events,
                                       *consoles, extras.get(), fixed_ips.get(), host_power.get()});
    return {};
}

OpenstackNode::OpenstackNode(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

OpenstackNode::~OpenstackNode() {
    stop();
}

Result<std::unique_ptr<OpenstackNode>> OpenstackNode::open(const NodeShared& shared,
                                                           NodeSettings settings) {
    auto parts = std::make_unique<Parts>(shared, std::move(settings));
    TRY(parts->open_records());
    TRY(parts->open_manager());
    return std::unique_ptr<OpenstackNode>(new OpenstackNode(std::move(parts)));
}

Result<void> OpenstackNode::start() {
    Parts& parts = *parts_;
    const std::string& host = parts.settings.options.host;
    TRY_CONTEXT(parts.records->register_service(), "recording service nova-compute of host {}",
                host);
    TRY_CONTEXT(parts.manager->init_host(), "recovering this node");
    parts.volumes->start([&parts](const std::string& server, const std::string& volume) {
        parts.manager->volume_restarted(server, volume);
    });
    parts.server = std::make_unique<amqp::RpcServer>(
        parts.shared.transport, amqp::RpcServer::Settings{.pool = parts.shared.requests});
    parts.server->start(kTopics, host, [&parts](const amqp::RpcRequest& request) {
        return parts.endpoint->handle(request);
    });
    parts.admin = TRY(open_node_admin(parts.settings.options.state_path, parts.node_driver));
    parts.shared.loop.post([&parts] {
        parts.manager->start_periodic_tasks(parts.shared.loop, parts.settings.first_period);
    });
    return {};
}

void OpenstackNode::stop() {
    Parts& parts = *parts_;
    parts.admin.reset();
    if (parts.server) {
        parts.server->stop();
    }
    if (parts.volumes) {
        parts.volumes->stop();
    }
    if (parts.manager) {
        parts.manager->stop();
    }
}

}  // namespace kumoi::api
