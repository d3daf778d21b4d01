// A node's records (NovaConductor, NodeRecords, NovaMoves) against the controller's endpoint, with
// the wire left out: what one writes the other reads.
#include "api/cluster/conductor_endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/cluster/network_codec.h"
#include "api/cluster/remote_compute.h"
#include "api/nova/instance_object.h"
#include "api/nova/nova_moves.h"
#include "api/nova/oslo_context.h"
#include "compute/vm_states.h"
#include "tests/support/conductor_fakes.h"

namespace kumoi::cluster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kImage[] = "340aee23-0f31-4bb7-a985-456e4da837c6";

// Calls go straight to the endpoint, casts to nodes are kept.
class StraightRpc final : public amqp::RpcClient {
public:
    ConductorEndpoint* endpoint = nullptr;
    struct Sent {
        std::string host;
        std::string method;
        Json args;
    };
    std::vector<Sent> sent;

    Result<Json> call(const amqp::Target& target, const Json& context, const std::string& method,
                      Json args, amqp::CallOptions) override {
        if (target.topic == "compute") {
            sent.push_back({target.server, method, std::move(args)});
            return Json();
        }
        amqp::RpcRequest request;
        request.context = context;
        request.method = method;
        request.namespace_ = target.namespace_;
        request.args = TRY(Json::parse(args.dump()));  // as it would come over the wire
        return endpoint->handle(request);
    }
    Result<void> cast(const amqp::Target& target, const Json& context, const std::string& method,
                      Json args) override {
        if (target.topic == "compute") {
            sent.push_back({target.server, method, std::move(args)});
            return {};
        }
        TRY(call(target, context, method, std::move(args), {}));
        return {};
    }
};

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

class ClusterRecords : public testing::Test {
protected:
    ClusterRecords()
        : objects_(rpc_, cluster::objects()),
          scheduler_(rpc_, cluster::objects(), "cn-2", clock_, random_, false),
          node_(objects_, clock_, random_, {"cn-2", "cn-2", nova::Release::Gazpacho},
                [](const compute::ComputeNode&, bool) { return Result<void>(); }),
          records_({objects_, allocations_, node_, scheduler_, clock_, random_, 0}),
          moves_({records_, objects_, allocations_, node_, clock_, random_}) {
        images_.add(kImage).properties["hw_machine"] = "kumoi-1";
        database_ = compute::Database::open(":memory:").value();
        conductor_ =
            compute::Conductor::create({}, {*database_, clock_, random_, images_, networks_})
                .value();
        endpoint_ =
            ConductorEndpoint::create({*conductor_, *database_,
                                       [this](const std::string& host) { seen_.push_back(host); }})
                .value();
        rpc_.endpoint = endpoint_.get();
        hosts_.emplace(ComputeRpc{rpc_, *endpoint_, *conductor_, clock_, random_});
        cn2_ = std::make_unique<RemoteCompute>("cn-2", *hosts_);
        conductor_->register_host("cn-2", *cn2_);
        EXPECT_TRUE(node_.register_service().ok());
        compute::ComputeNode node;
        node.uuid = "0b9a1f9e-6c1f-4c58-8d6a-000000000002";
        node.host = node.hypervisor_hostname = "cn-2";
        node.host_ip = "10.0.0.2";
        node.vcpus = 4;
        node.memory_mb = 4096;
        node.local_gb = 50;
        node.cpu_info_json = "{}";
        const auto updated = node_.update(node);
        EXPECT_TRUE(updated.ok()) << updated.error().text();
        compute::Flavor flavor;
        flavor.flavor_id = "1";
        flavor.name = "m1.tiny";
        flavor.vcpus = 1;
        flavor.memory_mb = 512;
        flavor.root_gb = 1;
        flavor.extra_specs["hw:cpu_policy"] = "shared";
        EXPECT_TRUE(conductor_->flavors().create(flavor).ok());
    }

    std::string create() {
        compute::CreateServers request;
        request.context = {"req-1", "alice", "p1", false};
        request.name = "web";
        request.image_id = kImage;
        request.flavor_id = "1";
        request.admin_password = "secret";
        request.metadata["color"] = "red";
        request.injected_files["/etc/motd"] = "hello";
        return conductor_->create_servers(request).value().servers.front().uuid;
    }
    compute::Instance stored(const std::string& uuid) {
        return conductor_->instance_get(uuid).value();
    }

    ManualClock clock_{1'795'426'719 * kNanosPerSecond};
    SeededRandom random_{1};
    StraightRpc rpc_;
    nova::ObjectClient objects_;
    NoAllocations allocations_;
    nova::SchedulerNews scheduler_;
    nova::NodeRecords node_;
    nova::NovaConductor records_;
    nova::NovaMoves moves_;
    compute::conductor_fakes::ImageApiFake images_;
    compute::conductor_fakes::NetworkApiFake networks_;
    std::unique_ptr<compute::Database> database_;
    std::unique_ptr<compute::Conductor> conductor_;
    std::unique_ptr<ConductorEndpoint> endpoint_;
    std::optional<ComputeRpc> hosts_;
    std::unique_ptr<RemoteCompute> cn2_;
    std::vector<std::string> seen_;
};

TEST_F(ClusterRecords, ANodeRegistersAndIsSeen) {
    EXPECT_THAT(seen_, ElementsAre("cn-2"));
    const auto service = conductor_->services().find_service("cn-2", "nova-compute");
    ASSERT_TRUE(service);
    EXPECT_TRUE(service->up);
    EXPECT_EQ(conductor_->services().find_node("cn-2")->node.memory_mb, 4096);
    clock_.advance(61 * kNanosPerSecond);
    EXPECT_FALSE(conductor_->services().find_service("cn-2", "nova-compute")->up);
    EXPECT_TRUE(records_.service_heartbeat("cn-2").ok());
    EXPECT_TRUE(conductor_->services().find_service("cn-2", "nova-compute")->up);
    EXPECT_TRUE(nova::ping_conductor(objects_, clock_, random_, 1000).ok());
}

TEST_F(ClusterRecords, AServerReadsTheSameOnItsNode) {
    const std::string uuid = create();
    ASSERT_EQ(rpc_.sent.size(), 1u);
    EXPECT_EQ(rpc_.sent[0].host, "cn-2");
    EXPECT_EQ(rpc_.sent[0].method, "build_and_run_instance");
    EXPECT_EQ(rpc_.sent[0].args.string_or("admin_password"), "secret");
    EXPECT_EQ(rpc_.sent[0].args.find("instance")->dump().find("secret"), std::string::npos);
    const auto here = records_.instance_get(uuid);
    ASSERT_TRUE(here.ok()) << here.error().text();
    const compute::Instance there = stored(uuid);
    EXPECT_EQ(here->id, there.id);
    EXPECT_EQ(here->host, "cn-2");
    EXPECT_EQ(here->hostname, "web");
    EXPECT_EQ(here->vm_state, "building");
    EXPECT_EQ(here->flavor.extra_specs, there.flavor.extra_specs);
    EXPECT_EQ(here->flavor.root_gb, 1);
    EXPECT_EQ(here->image.id, kImage);
    EXPECT_EQ(here->image.properties.at("hw_machine"), "kumoi-1");
    EXPECT_EQ(here->metadata.at("color"), "red");
    const auto listed = records_.instances_by_host("cn-2");
    ASSERT_EQ(listed.value().size(), 1u);
}

TEST_F(ClusterRecords, WhatANodeSavesIsCheckedAndKept) {
    const std::string uuid = create();
    compute::VifInfo vif;
    vif.port_id = "11111111-2222-3333-4444-555555555555";
    vif.network_id = "66666666-2222-3333-4444-555555555555";
    vif.network_name = "private";
    vif.mac = "fa:16:3e:00:00:01";
    compute::InstanceUpdate update;
    update.vm_state = compute::vm_states::kActive;
    update.task_state = std::optional<std::string>();
    update.power_state = 1;
    update.launched_ns = clock_.wall_ns();
    update.network_info = std::vector<compute::VifInfo>{vif};
    const auto saved = records_.instance_save(uuid, update);
    ASSERT_TRUE(saved.ok()) << saved.error().text();
    const compute::Instance now = stored(uuid);
    EXPECT_EQ(now.vm_state, "active");
    EXPECT_EQ(now.power_state, 1);
    EXPECT_EQ(now.launched_ns, clock_.wall_ns());
    ASSERT_EQ(now.network_info.size(), 1u);
    EXPECT_EQ(now.network_info[0].mac, vif.mac);
    compute::InstanceUpdate late;
    late.task_state = std::optional<std::string>("spawning");
    late.expected_task_state = {{"networking"}};
    const auto refused = records_.instance_save(uuid, late);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().fault, "UnexpectedTaskStateError");
    EXPECT_TRUE(records_.fault_create(uuid, {500, "broken", "it broke", 0}).ok());
    EXPECT_EQ(stored(uuid).fault->message, "broken");
    EXPECT_TRUE(records_.instance_destroy(uuid).ok());
    EXPECT_FALSE(conductor_->instance_get(uuid).ok());
    EXPECT_EQ(records_.instance_get(uuid).error().fault, "InstanceNotFound");
}

TEST_F(ClusterRecords, EventsAndTheirFailuresAreRecorded) {
    const std::string uuid = create();
    const compute::RequestContext context{"req-1", "alice", "p1", true};
    EXPECT_TRUE(records_.action_event_start(context, uuid, "compute_x", "cn-2").ok());
    EXPECT_TRUE(
        records_.action_event_finish(context, uuid, "compute_x", Error::internal("oh no")).ok());
    const auto action = conductor_->actions().find(uuid, "req-1").value();
    ASSERT_TRUE(action);
    const auto events = conductor_->actions().events(action->id).value();
    EXPECT_EQ(events.at(0).result, "Error");
    EXPECT_EQ(events.at(0).host, "cn-2");
}

TEST_F(ClusterRecords, AMigrationIsOneRecordForAll) {
    const std::string uuid = create();
    compute::MigrationRecord migration;
    migration.instance_uuid = uuid;
    migration.migration_type = "live-migration";
    migration.status = "accepted";
    migration.source_compute = "cn-2";
    migration.dest_compute = "cn-3";
    ASSERT_TRUE(database_
                    ->write([&](compute::SqlSession& sql) {
                        return conductor_->migrations().create(sql, migration);
                    })
                    .ok());
    auto object = objects_.class_object(nova::admin_context(clock_, random_), "Migration",
                                        "get_by_id", {Json(migration.id)});
    ASSERT_TRUE(object.ok()) << object.error().text();
    object->set("status", "running");
    object->set("memory_total", 4096);
    object->set("memory_remaining", 1024);
    ASSERT_TRUE(objects_.action(nova::admin_context(clock_, random_), *object, "save").ok());
    const auto now = conductor_->migrations().find(migration.id).value();
    EXPECT_EQ(now->status, "running");
    EXPECT_EQ(now->progress.memory_remaining, 1024);
    EXPECT_EQ(now->progress.disk_total, std::nullopt);
    const auto open =
        objects_.class_objects(nova::admin_context(clock_, random_), "MigrationList",
                               "get_in_progress_and_error", nova::text_arguments({"cn-3", "cn-3"}));
    EXPECT_EQ(open.value().size(), 1u);
}

TEST_F(ClusterRecords, TheContextOfAMoveStaysUntilItIsDropped) {
    const std::string uuid = create();
    auto object = objects_.class_object(nova::admin_context(clock_, random_), "Instance",
                                        "get_by_uuid", nova::text_arguments({uuid}));
    nova::NovaObject context = nova::NovaObject::make(objects(), "MigrationContext");
    context.set("instance_uuid", uuid);
    context.set("migration_id", 7);
    object->set("migration_context", context.primitive());
    ASSERT_TRUE(objects_.action(nova::admin_context(clock_, random_), *object, "save").ok());
    const auto kept =
        objects_.class_object(nova::admin_context(clock_, random_), "MigrationContext",
                              "get_by_instance_uuid", nova::text_arguments({uuid}));
    EXPECT_EQ(kept->integer("migration_id"), 7);
    EXPECT_TRUE(moves_.drop_context(uuid).ok());
    EXPECT_EQ(objects_
                  .class_object(nova::admin_context(clock_, random_), "MigrationContext",
                                "get_by_instance_uuid", nova::text_arguments({uuid}))
                  .error()
                  .fault,
              "MigrationContextNotFound");
}

TEST_F(ClusterRecords, ABuildThatIsGivenBackGoesNowhereElse) {
    const std::string uuid = create();
    records_.adopt_build(uuid, {rpc_.sent[0].args});
    const auto given =
        records_.reschedule_build({"req-1", "alice", "p1", true}, uuid, Error::internal("no disk"));
    ASSERT_TRUE(given.ok()) << given.error().text();
    EXPECT_EQ(stored(uuid).vm_state, "error");  // cn-2 is the only host
    EXPECT_THAT(stored(uuid).fault->message, HasSubstr("The build failed on cn-2"));
    EXPECT_THAT(stored(uuid).fault->message, HasSubstr("no disk"));
}

TEST_F(ClusterRecords, WhatNobodyKnowsIsRefused) {
    const auto answer = objects_.class_action(nova::admin_context(clock_, random_), "Instance",
                                              "drop_all_tables", {});
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().fault, "NoSuchMethod");
}

TEST(NetworkCodec, NetworksAndPortsTravelWhole) {
    compute::NetworkSpec network;
    network.id = "n";
    network.mtu = 1450;
    network.vni = 77;
    network.peers = {"10.0.0.1", "10.0.0.2"};
    compute::SubnetSpec subnet;
    subnet.id = "s";
    subnet.cidr = "10.0.3.0/24";
    subnet.gateway = "10.0.3.1";
    subnet.dns_servers = {"9.9.9.9"};
    subnet.host_routes = {{"10.9.0.0/16", "10.0.3.9"}};
    network.subnets = {subnet};
    network.dhcp_hosts = {{"fa:16:3e:00:00:01", "10.0.3.5", "web"}};
    const auto there = network_from_json(network_to_json(network));
    ASSERT_TRUE(there.ok());
    EXPECT_EQ(there->vni, 77);
    EXPECT_EQ(there->peers, network.peers);
    EXPECT_EQ(there->dhcp_hosts, network.dhcp_hosts);
    EXPECT_EQ(there->subnets[0].host_routes, subnet.host_routes);
    EXPECT_EQ(there->subnets[0].host_address, std::nullopt);

    compute::PortSpec port;
    port.id = "p";
    port.network_id = "n";
    port.mac = "fa:16:3e:00:00:01";
    port.addresses = {"10.0.3.5"};
    port.allowed_address_pairs = {{"", "10.0.4.0/24"}};
    compute::SecurityRule rule;
    rule.protocol = "tcp";
    rule.port_min = rule.port_max = 22;
    port.rules = {rule};
    const auto carried = port_from_json(port_to_json(port));
    ASSERT_TRUE(carried.ok());
    EXPECT_EQ(carried->rules[0].port_max, 22);
    EXPECT_EQ(carried->rules[0].remote_prefix, std::nullopt);
    EXPECT_EQ(carried->allowed_address_pairs[0].cidr, "10.0.4.0/24");
    EXPECT_FALSE(port_from_json(Json::object({{"id", "p"}})).ok());
    EXPECT_FALSE(network_from_json(Json("n")).ok());
}

}  // namespace
}  // namespace kumoi::cluster
