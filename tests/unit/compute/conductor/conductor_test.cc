#include "compute/conductor/conductor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "compute/vm_states.h"
#include "tests/support/conductor_fakes.h"

namespace kumoi::compute {
namespace {

using conductor_fakes::ComputeApiFake;
using conductor_fakes::ImageApiFake;
using conductor_fakes::NetworkApiFake;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kImage[] = "340aee23-0f31-4bb7-a985-456e4da837c6";

class ConductorTest : public testing::Test {
protected:
    ConductorTest() {
        images_.add(kImage);
        database_ = Database::open(":memory:").value();
        restart();
        for (ComputeApiFake* node : {&cn1_, &cn2_}) {
            node->conductor = conductor_.get();
        }
        add_node(cn1_, "cn-1", 4, 4096, 50);
        Flavor flavor;
        flavor.flavor_id = "1";
        flavor.name = "m1.tiny";
        flavor.vcpus = 1;
        flavor.memory_mb = 512;
        flavor.root_gb = 1;
        EXPECT_TRUE(conductor_->flavors().create(flavor).ok());
    }

    // What a new process would see: the same database, nothing else.
    void restart() {
        conductor_.reset();
        conductor_ =
            Conductor::create({}, {*database_, clock_, random_, images_, networks_}).value();
        cn1_.conductor = conductor_.get();
        cn2_.conductor = conductor_.get();
        conductor_->register_host("cn-1", cn1_);
    }

    void add_node(ComputeApiFake& node, const std::string& host, int64_t vcpus, int64_t memory_mb,
                  int64_t local_gb) {
        conductor_->register_host(host, node);
        EXPECT_TRUE(conductor_->service_heartbeat(host).ok());
        EXPECT_TRUE(conductor_->compute_node_update(node.node(vcpus, memory_mb, local_gb)).ok());
    }

    CreateServers request(const std::string& name = "web") {
        CreateServers create;
        create.context = alice_;
        create.name = name;
        create.image_id = kImage;
        create.flavor_id = "1";
        return create;
    }

    std::string create(const std::string& name = "web") {
        auto created = conductor_->create_servers(request(name));
        EXPECT_TRUE(created.ok()) << (created.ok() ? "" : created.error().text());
        return created.ok() ? created->servers.front().uuid : "";
    }

    Instance get(const std::string& uuid) { return conductor_->instance_get(uuid).value(); }

    int64_t journal_rows() {
        return database_
            ->read([](SqlSession& sql) { return sql.query("SELECT 1 FROM build_requests"); })
            .value()
            .size();
    }

    ManualClock clock_;
    SeededRandom random_{1};
    ImageApiFake images_;
    NetworkApiFake networks_;
    std::unique_ptr<Database> database_;
    std::unique_ptr<Conductor> conductor_;
    ComputeApiFake cn1_{"cn-1"};
    ComputeApiFake cn2_{"cn-2"};
    const RequestContext alice_{"req-1", "alice", "p1", false};
    const RequestContext admin_{"req-2", "root", "p0", true};
};

TEST_F(ConductorTest, RefusesBeforeAnythingExists) {
    struct Case {
        std::function<void(CreateServers&)> change;
        std::string fault;
    };
    images_.add("queued").status = "queued";
    images_.add("big").size = uint64_t{2} << 30;
    images_.add("hungry").min_ram_mb = 1024;
    images_.add("wide").min_disk_gb = 2;
    const Case cases[] = {
        {[](auto& r) { r.flavor_id = "9"; }, "FlavorNotFound"},
        {[](auto& r) { r.image_id = "nope"; }, "ImageNotFound"},
        {[](auto& r) { r.image_id = "queued"; }, "ImageNotActive"},
        {[](auto& r) { r.image_id = "big"; }, "FlavorDiskSmallerThanImage"},
        {[](auto& r) { r.image_id = "hungry"; }, "FlavorMemoryTooSmall"},
        {[](auto& r) { r.image_id = "wide"; }, "FlavorDiskSmallerThanMinDisk"},
        {[](auto& r) { r.key_name = "lost"; }, "KeypairNotFound"},
        {[](auto& r) { r.availability_zone = "mars"; }, "AvailabilityZoneNotFound"},
        {[](auto& r) { r.requested_host = "cn-9"; }, "ComputeHostNotFound"},
        {[](auto& r) { r.server_group = "none"; }, "InstanceGroupNotFound"},
    };
    for (const Case& c : cases) {
        CreateServers bad = request();
        c.change(bad);
        const auto created = conductor_->create_servers(bad);
        ASSERT_FALSE(created.ok()) << c.fault;
        EXPECT_EQ(created.error().fault, c.fault);
        EXPECT_EQ(created.error().code, ErrorCode::InvalidArgument);
    }
    networks_.validation_failure = Error::invalid("Network x could not be found.");
    EXPECT_FALSE(conductor_->create_servers(request()).ok());
    EXPECT_TRUE(conductor_->instances().all().empty());
    EXPECT_EQ(journal_rows(), 0);
    EXPECT_TRUE(cn1_.calls.empty());
}

TEST_F(ConductorTest, CreatesPlacesAndHearsOfTheServerBecomingActive) {
    const std::string uuid = create();
    const Instance instance = get(uuid);
    EXPECT_EQ(instance.vm_state, vm_states::kActive);
    EXPECT_EQ(instance.host, "cn-1");
    EXPECT_EQ(instance.availability_zone, "nova");
    EXPECT_EQ(instance.hostname, "web");
    EXPECT_EQ(instance.id, 1);
    EXPECT_EQ(instance.reservation_id.substr(0, 2), "r-");
    EXPECT_THAT(cn1_.calls, ElementsAre("build " + uuid));
    EXPECT_EQ(journal_rows(), 0);
    const auto actions = conductor_->actions().list(uuid, {}).value();
    ASSERT_EQ(actions.size(), 1u);
    EXPECT_EQ(actions[0].action, "create");
    EXPECT_EQ(actions[0].request_id, "req-1");
    const auto events = conductor_->actions().events(actions[0].id).value();
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].event, "compute__do_build_and_run_instance");
    EXPECT_EQ(events[0].result, "Success");
}

TEST_F(ConductorTest, NumbersTheServersOfOneRequest) {
    CreateServers many = request("My Web_1.x");
    many.min_count = many.max_count = 3;
    const auto created = conductor_->create_servers(many).value();
    ASSERT_EQ(created.servers.size(), 3u);
    EXPECT_EQ(created.servers[2].display_name, "My Web_1.x-3");
    EXPECT_EQ(created.servers[2].hostname, "my-web-1-x-3");
    EXPECT_EQ(created.servers[2].launch_index, 2);
    EXPECT_EQ(conductor_->instances().usage("p1").instances, 3);
}

TEST_F(ConductorTest, NoValidHostNamesEveryHostAndClaimsNothing) {
    add_node(cn2_, "cn-2", 4, 4096, 50);
    const auto service = conductor_->services().find_service("cn-2", "nova-compute");
    ServiceChange disable;
    disable.disabled = true;
    disable.disabled_reason = "new memory";
    ASSERT_TRUE(conductor_->services().change(service->uuid, disable).ok());
    Flavor large;
    large.flavor_id = large.name = "large";
    large.vcpus = 1;
    large.memory_mb = 8192;
    ASSERT_TRUE(conductor_->flavors().create(large).ok());
    CreateServers wish = request();
    wish.flavor_id = "large";
    const std::string uuid = conductor_->create_servers(wish).value().servers[0].uuid;
    const Instance instance = get(uuid);
    EXPECT_EQ(instance.vm_state, vm_states::kError);
    EXPECT_TRUE(instance.host.empty());
    ASSERT_TRUE(instance.fault);
    EXPECT_THAT(instance.fault->message, HasSubstr("No valid host was found"));
    EXPECT_THAT(instance.fault->message, HasSubstr("cn-1: RamFilter (8192 MiB requested"));
    EXPECT_THAT(instance.fault->message, HasSubstr("cn-2: ComputeFilter"));
    EXPECT_THAT(instance.fault->message, HasSubstr("new memory"));
    EXPECT_EQ(conductor_->instances().claims("cn-1").memory_mb, 0);
    EXPECT_EQ(journal_rows(), 0);
    EXPECT_EQ(conductor_->actions().list(uuid, {}).value()[0].message, "Error");
    // It can be deleted although it is on no host.
    EXPECT_TRUE(conductor_->delete_server(alice_, uuid, false).ok());
    EXPECT_EQ(conductor_->instances().find(uuid), nullptr);
}

TEST_F(ConductorTest, ParallelCreatesNeverTakeTheSameRoom) {
    cn1_.finish_at_once = false;
    // 4096 MiB: exactly eight servers of 512 MiB.
    std::vector<std::thread> threads;
    ASSERT_TRUE(
        conductor_->quotas().set("p1", {{"instances", -1}, {"cores", -1}, {"ram", -1}}).ok());
    for (int thread = 0; thread < 4; ++thread) {
        threads.emplace_back([&, thread] {
            for (int index = 0; index < 4; ++index) {
                (void)conductor_->create_servers(request(fmt::format("s{}-{}", thread, index)));
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(conductor_->instances().claims("cn-1").memory_mb, 4096);
    EXPECT_EQ(conductor_->instances().claims("cn-1").servers, 8);
    EXPECT_EQ(cn1_.calls.size(), 8u);
    EXPECT_EQ(conductor_->instances().usage("p1").instances, 16);
}

TEST_F(ConductorTest, QuotaIsCheckedWithTheCreation) {
    ASSERT_TRUE(conductor_->quotas().set("p1", {{"instances", 2}, {"ram", 1024}}).ok());
    create("a");
    CreateServers two = request("b");
    two.min_count = two.max_count = 2;
    const auto refused = conductor_->create_servers(two);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().fault, "TooManyInstances");
    EXPECT_EQ(refused.error().code, ErrorCode::Forbidden);
    EXPECT_EQ(refused.error().message,
              "Quota exceeded for instances, ram: Requested 2, 1024, but already used 1, 512 of 2, "
              "1024 instances, ram");
    two.min_count = 1;  // as many as fit
    EXPECT_EQ(conductor_->create_servers(two).value().servers.size(), 1u);
    EXPECT_EQ(conductor_->instances().usage("p1").instances, 2);
}

TEST_F(ConductorTest, VerbsFollowNovasTableOfStates) {
    const std::string uuid = create();
    auto refused = conductor_->start_server(alice_, uuid);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().message,
              "Cannot 'start' instance " + uuid + " while it is in vm_state active");
    EXPECT_EQ(refused.error().code, ErrorCode::Conflict);
    ASSERT_TRUE(conductor_->stop_server(alice_, uuid).ok());
    EXPECT_EQ(get(uuid).vm_state, vm_states::kStopped);
    EXPECT_EQ(conductor_->pause_server(alice_, uuid).error().message,
              "Cannot 'pause' instance " + uuid + " while it is in vm_state stopped");
    EXPECT_FALSE(conductor_->reboot_server(alice_, uuid, RebootType::Soft).ok());
    ASSERT_TRUE(conductor_->reboot_server(alice_, uuid, RebootType::Hard).ok());
    ASSERT_TRUE(conductor_->pause_server(alice_, uuid).ok());
    ASSERT_TRUE(conductor_->unpause_server(alice_, uuid).ok());
    EXPECT_THAT(cn1_.calls, ElementsAre("build " + uuid, "stop " + uuid, "reboot hard " + uuid,
                                        "pause " + uuid, "unpause " + uuid));
    cn1_.finish_at_once = false;
    ASSERT_TRUE(conductor_->stop_server(alice_, uuid).ok());
    EXPECT_EQ(conductor_->pause_server(alice_, uuid).error().message,
              "Cannot 'pause' instance " + uuid + " while it is in task_state powering-off");
}

TEST_F(ConductorTest, ARefusedCastTakesTheTaskBack) {
    const std::string uuid = create();
    cn1_.refusal = Error::unavailable("The queue of this server is full.");
    EXPECT_FALSE(conductor_->stop_server(alice_, uuid).ok());
    EXPECT_FALSE(get(uuid).task_state);
    EXPECT_EQ(conductor_->actions().list(uuid, {}).value()[0].message, "Error");
}

TEST_F(ConductorTest, LockKeepsTheOwnerOutAndNotTheAdministrator) {
    const std::string uuid = create();
    ASSERT_TRUE(conductor_->lock_server(alice_, uuid, "mine").ok());
    EXPECT_EQ(conductor_->stop_server(alice_, uuid).error().message,
              "Instance " + uuid + " is locked");
    EXPECT_FALSE(conductor_->delete_server(alice_, uuid, false).ok());
    EXPECT_TRUE(conductor_->stop_server(admin_, uuid).ok());
    ASSERT_TRUE(conductor_->unlock_server(alice_, uuid).ok());
    ASSERT_TRUE(conductor_->lock_server(admin_, uuid, std::nullopt).ok());
    const auto refused = conductor_->unlock_server(alice_, uuid);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::Forbidden);
    EXPECT_TRUE(conductor_->unlock_server(admin_, uuid).ok());
}

TEST_F(ConductorTest, DeleteFreesEverything) {
    const std::string uuid = create();
    ASSERT_TRUE(conductor_->delete_server(alice_, uuid, false).ok());
    EXPECT_THAT(cn1_.calls, ElementsAre("build " + uuid, "terminate " + uuid));
    EXPECT_EQ(conductor_->instance_get(uuid).error().fault, "InstanceNotFound");
    EXPECT_EQ(conductor_->instances().claims("cn-1").servers, 0);
    EXPECT_EQ(conductor_->instances().usage("p1").instances, 0);
    const InstancePtr deleted = conductor_->instances().find_deleted(uuid).value();
    ASSERT_NE(deleted, nullptr);
    EXPECT_EQ(deleted->instance.vm_state, vm_states::kDeleted);
    EXPECT_EQ(conductor_->actions().list(uuid, {}).value().size(), 2u);
}

TEST_F(ConductorTest, DeleteOnADownHostIsLocal) {
    const std::string uuid = create();
    clock_.advance(61 * kNanosPerSecond);
    ASSERT_TRUE(conductor_->delete_server(alice_, uuid, false).ok());
    EXPECT_THAT(cn1_.calls, ElementsAre("build " + uuid));
    EXPECT_THAT(networks_.deallocated, ElementsAre(uuid));
    EXPECT_EQ(conductor_->instances().find(uuid), nullptr);
}

TEST_F(ConductorTest, AFailedBuildIsTriedOnAnotherHost) {
    add_node(cn2_, "cn-2", 2, 2048, 50);  // less room: the second choice
    cn1_.build_failure = Error::io("No space left on device");
    const std::string uuid = create();
    const Instance instance = get(uuid);
    EXPECT_EQ(instance.vm_state, vm_states::kActive);
    EXPECT_EQ(instance.host, "cn-2");
    EXPECT_EQ(conductor_->instances().claims("cn-1").servers, 0);
    EXPECT_EQ(conductor_->instances().claims("cn-2").servers, 1);
}

TEST_F(ConductorTest, ABuildThatFailsEverywhereEndsInErrorWithTheReason) {
    cn1_.build_failure = Error::io("No space left on device");
    const std::string uuid = create();
    const Instance instance = get(uuid);
    EXPECT_EQ(instance.vm_state, vm_states::kError);
    EXPECT_TRUE(instance.host.empty());
    ASSERT_TRUE(instance.fault);
    EXPECT_THAT(instance.fault->message,
                HasSubstr("The build failed on cn-1: No space left on device"));
    EXPECT_THAT(instance.fault->message, HasSubstr("the build failed there before"));
    EXPECT_EQ(conductor_->instances().claims("cn-1").servers, 0);
    EXPECT_EQ(journal_rows(), 0);
}

TEST_F(ConductorTest, ABuildThatWasOnlyCutShortIsTriedOnTheSameHost) {
    cn1_.build_failure = Error::unavailable("The node was restarted while it built this server");
    const std::string uuid = create();  // fails as often as it is tried
    EXPECT_EQ(cn1_.builds.size(), 3u);
    EXPECT_EQ(get(uuid).vm_state, vm_states::kError);
    EXPECT_EQ(journal_rows(), 0);
}

TEST_F(ConductorTest, SavesAreComparedWithTheExpectedTask) {
    cn1_.finish_at_once = false;
    const std::string uuid = create();
    InstanceUpdate update;
    update.task_state = std::optional<std::string>(task_states::kNetworking);
    update.expected_task_state = std::vector<std::optional<std::string>>{std::nullopt};
    ASSERT_TRUE(conductor_->instance_save(uuid, update).ok());
    const auto refused = conductor_->instance_save(uuid, update);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().fault, "UnexpectedTaskStateError");
    ASSERT_TRUE(conductor_->delete_server(alice_, uuid, false).ok());
    EXPECT_EQ(conductor_->instance_save(uuid, update).error().fault,
              "UnexpectedDeletingTaskStateError");
}

TEST_F(ConductorTest, EverythingSurvivesARestart) {
    const std::string uuid = create();
    ASSERT_TRUE(conductor_->lock_server(alice_, uuid, "mine").ok());
    const Instance before = get(uuid);
    restart();
    const Instance after = get(uuid);
    EXPECT_EQ(after.vm_state, before.vm_state);
    EXPECT_EQ(after.id, before.id);
    EXPECT_EQ(after.flavor.memory_mb, 512);
    EXPECT_EQ(after.image.id, kImage);
    EXPECT_EQ(after.locked_reason, "mine");
    ASSERT_EQ(after.network_info.size(), 1u);
    EXPECT_EQ(after.network_info[0].fixed_ips[0].address, "10.0.0.5");
    EXPECT_EQ(conductor_->instances().claims("cn-1").memory_mb, 512);
    EXPECT_EQ(conductor_->services().services().size(), 3u);  // the controller's two as well
    EXPECT_EQ(conductor_->services().nodes().size(), 1u);
}

TEST_F(ConductorTest, ReconcileBuildsAgainWhatNoNodeWorksOn) {
    cn1_.finish_at_once = false;
    CreateServers wish = request();
    wish.networks = {{"net-1", std::nullopt, std::nullopt, std::nullopt}};
    wish.network_choice = NetworkChoice::Listed;
    const std::string uuid = conductor_->create_servers(wish).value().servers[0].uuid;
    restart();  // the daemon died before the node wrote anything down
    cn1_.calls.clear();
    cn1_.builds.clear();
    cn1_.finish_at_once = true;
    ASSERT_TRUE(conductor_->reconcile().ok());
    EXPECT_THAT(cn1_.calls, ElementsAre("build " + uuid));
    EXPECT_EQ(cn1_.builds[0].requested_networks[0].network_id, "net-1");
    EXPECT_EQ(get(uuid).vm_state, vm_states::kActive);
    EXPECT_EQ(journal_rows(), 0);
}

TEST_F(ConductorTest, ReconcileLeavesToTheNodeWhatItReportedOn) {
    cn1_.finish_at_once = false;
    const std::string uuid = create();
    restart();
    cn1_.calls.clear();
    InstanceUpdate update;
    update.task_state = std::optional<std::string>(task_states::kSpawning);
    ASSERT_TRUE(conductor_->instance_save(uuid, update).ok());
    ASSERT_TRUE(conductor_->reconcile().ok());
    EXPECT_TRUE(cn1_.calls.empty());
    EXPECT_EQ(journal_rows(), 1);
}

TEST_F(ConductorTest, ReconcileFinishesInterruptedVerbs) {
    const std::string stopped = create("a");
    const std::string deleted = create("b");
    cn1_.finish_at_once = false;
    ASSERT_TRUE(conductor_->stop_server(alice_, stopped).ok());
    ASSERT_TRUE(conductor_->delete_server(alice_, deleted, false).ok());
    restart();
    cn1_.finish_at_once = true;
    ASSERT_TRUE(conductor_->reconcile().ok());
    EXPECT_EQ(get(stopped).vm_state, vm_states::kStopped);
    EXPECT_EQ(conductor_->instances().find(deleted), nullptr);
}

TEST_F(ConductorTest, ReconcileGivesUpBuildsWithoutAReachableHost) {
    cn1_.finish_at_once = false;
    const std::string uuid = create();
    restart();
    conductor_->unregister_host("cn-1");
    ASSERT_TRUE(conductor_->reconcile().ok());
    EXPECT_EQ(get(uuid).vm_state, vm_states::kError);
    EXPECT_EQ(conductor_->instances().claims("cn-1").servers, 0);
    EXPECT_EQ(journal_rows(), 0);
}

TEST_F(ConductorTest, AntiAffinityKeepsGroupMembersApart) {
    add_node(cn2_, "cn-2", 4, 4096, 50);
    ServerGroup group;
    group.uuid = "g1";
    group.project_id = "p1";
    group.policy = "anti-affinity";
    ASSERT_TRUE(conductor_->server_groups().create(group, 10).ok());
    std::set<std::string> hosts;
    for (const char* name : {"a", "b"}) {
        CreateServers wish = request(name);
        wish.server_group = "g1";
        hosts.insert(conductor_->create_servers(wish).value().servers[0].host);
    }
    EXPECT_EQ(hosts.size(), 2u);
    CreateServers third = request("c");
    third.server_group = "g1";
    const Instance refused = conductor_->create_servers(third).value().servers[0];
    EXPECT_THAT(refused.fault->message, HasSubstr("anti-affinity"));
    EXPECT_EQ(conductor_->server_groups().get("g1")->members.size(), 3u);
}

}  // namespace
}  // namespace kumoi::compute
