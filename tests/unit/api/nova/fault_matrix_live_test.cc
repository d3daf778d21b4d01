// The fault matrix (fault_matrix_test.cc) for live migration between two hosts of one cloud, with
// and without a volume, also aborted, refused, and with a handover that nobody can decide for a
// while. Afterwards the server is on one host, whole, and nothing of it is on the other.
#include "compute/manager/live_migration_records.h"
#include "tests/support/two_hosts.h"

namespace kumoi::nova {
namespace {

using namespace fault_matrix;
using namespace fault_matrix::two_hosts;

Json& migration_of(TwoHosts& hosts) {
    return hosts.database.migrations.back()["nova_object.data"];
}

// As conductor undoes what it has begun.
void give_up(TwoHosts& hosts) {
    hosts.database.allocations = {allocation(NovaWorld::kUuid, kSource)};
    hosts.database.set(NovaWorld::kUuid, "task_state", Json());
    set_status(hosts, "error");
}

// As conductor's live_migrate_instance.
void live_migrate(TwoHosts& hosts) {
    add_migration(hosts, "live-migration", "accepted");
    hosts.database.allocations = {allocation(kMigration, kSource),
                                  allocation(NovaWorld::kUuid, kDestination)};
    hosts.source.set_task(task_states::kMigrating);
    Json args = Json::object(
        {{"block_migration", nullptr}, {"disk_over_commit", nullptr}, {"limits", nullptr}});
    args.set("instance", hosts.database.primitive(NovaWorld::kUuid));
    args.set("migration", hosts.database.migrations.back());
    const auto data =
        hosts.call(hosts.destination, "check_can_live_migrate_destination", std::move(args));
    if (!data.ok()) {
        give_up(hosts);
        return;
    }
    hosts.cloud->network.add_binding(NovaWorld::kUuid, hosts.destination.host);
    migration_of(hosts).set("dest_compute", hosts.destination.host);
    migration_of(hosts).set("dest_node", hosts.destination.host);
    hosts.ask(hosts.source, "live_migration",
              Json::object({{"dest", hosts.destination.host},
                            {"block_migration", nullptr},
                            {"migrate_data", *data}}));
}

void live_migrate_and_abort(TwoHosts& hosts) {
    hosts.source.driver.on_copy = [&hosts] {
        (void)hosts.source.request("live_migration_abort",
                                   Json::object({{"migration_id", migration_of(hosts)["id"]}}));
    };
    live_migrate(hosts);
    hosts.source.driver.on_copy = {};
    hosts.source.driver.abort = false;
}

void live_migrate_undecided(TwoHosts& hosts, bool goes) {
    hosts.source.driver.asks_until_decided = 3;
    hosts.source.driver.decides_to_go = goes;
    live_migrate(hosts);
}

struct Move {
    const char* name;
    bool with_volume = true;
    std::function<void(TwoHosts&)> act = live_migrate;
};

std::vector<Move> moves() {
    return {{"live migrate"},
            {"live migrate without a volume", false},
            {"abort", true, live_migrate_and_abort},
            {"undecided, and it went", true,
             [](TwoHosts& hosts) { live_migrate_undecided(hosts, true); }},
            {"undecided, and it stays", true,
             [](TwoHosts& hosts) { live_migrate_undecided(hosts, false); }}};
}

void expect_no_guest_here(const NovaWorld& world) {
    expect_no_guest(world);
    EXPECT_TRUE(world.driver.owners.empty()) << world.host;
    EXPECT_TRUE(world.driver.unfinished.empty()) << world.host;
}

void expect_whole(TwoHosts& hosts, const Move& one) {
    EXPECT_EQ(hosts.source.vm_state(), "active");
    EXPECT_EQ(hosts.source.task_state(), "");
    EXPECT_TRUE(hosts.database.open_events.empty()) << *hosts.database.open_events.begin();
    ASSERT_NE(hosts.owner(), nullptr);
    NovaWorld& here = *hosts.owner();
    NovaWorld& other = &here == &hosts.source ? hosts.destination : hosts.source;
    EXPECT_EQ(here.driver.power(NovaWorld::kUuid), power_states::kRunning) << here.host;
    EXPECT_EQ(here.vifs.taps().size(), 1u) << here.host;
    EXPECT_EQ(here.volume_host.running.size(), one.with_volume ? 1u : 0u) << here.host;
    EXPECT_EQ(here.network.bound_to(NovaWorld::kUuid), here.host);
    EXPECT_TRUE(here.network.bindings(NovaWorld::kUuid).empty())
        << *here.network.bindings(NovaWorld::kUuid).begin();
    EXPECT_EQ(here.network.migrating_to(NovaWorld::kUuid), "");
    EXPECT_TRUE(here.driver.unfinished.empty());
    expect_no_guest_here(other);
    if (one.with_volume) {
        expect_volume_attached(hosts);
    }
    const char* provider = &here == &hosts.source ? kSource : kDestination;
    EXPECT_EQ(hosts.database.allocations,
              std::set<std::string>{allocation(NovaWorld::kUuid, provider)});
    const std::string status = migration_of(hosts).string_or("status");
    EXPECT_TRUE(compute::is_over(status)) << status;
    EXPECT_EQ(status == "completed", &here == &hosts.destination) << status;
}

void expect_deletable(TwoHosts& hosts) {
    NovaWorld* here = hosts.owner();
    ASSERT_NE(here, nullptr);
    here->set_task(task_states::kDeleting);
    (void)here->request("terminate_instance", Json::object({{"bdms", Json::array()}}));
    hosts.let_time_pass();
    EXPECT_TRUE(hosts.database.is_deleted(NovaWorld::kUuid));
    for (NovaWorld* world : {&hosts.source, &hosts.destination}) {
        expect_no_guest_here(*world);
        world->manager.reset();
        EXPECT_EQ(world->open_operations(), 0u) << world->host;
    }
    EXPECT_EQ(hosts.cloud->network.port_count(), 0u);
    EXPECT_TRUE(hosts.cloud->cinder.attached.empty());
    EXPECT_TRUE(hosts.database.allocations.empty());
}

void strike_everywhere(NovaWorld::Fault fault, int least_borders) {
    const bool lasts = fault == NovaWorld::Fault::Crash || fault == NovaWorld::Fault::Outage;
    for (const Move& one : moves()) {
        if (std::string_view(one.name).starts_with("undecided") && !lasts) {
            continue;  // as the others
        }
        const bool failed_before = testing::Test::HasFailure();
        int border = 1;
        for (bool struck = true; struck && border < kBordersMax; ++border) {
            TwoHosts hosts(one.with_volume);
            hosts.cloud->arm(fault, border);
            one.act(hosts);
            struck = hosts.crashed || !hosts.cloud->disarm();
            SCOPED_TRACE(fmt::format("{}, border {}: {}", one.name, border, hosts.cloud->struck));
            hosts.let_time_pass();
            expect_whole(hosts, one);
            expect_deletable(hosts);
            if (testing::Test::HasFailure() && !failed_before) {
                break;  // the first of each operation tells enough
            }
        }
        EXPECT_TRUE(border > least_borders || testing::Test::HasFailure())
            << one.name << " was hardly tried";
        EXPECT_LT(border, kBordersMax) << one.name;
    }
}

TEST(FaultMatrixOfLiveMigration, NothingFails) {
    for (const Move& one : moves()) {
        SCOPED_TRACE(one.name);
        TwoHosts hosts(one.with_volume);
        one.act(hosts);
        const bool decided = hosts.source.driver.asks_until_decided == 0;
        EXPECT_EQ(hosts.source.task_state(), decided ? "" : "migrating");
        hosts.let_time_pass();
        expect_whole(hosts, one);
        const std::string_view name = one.name;
        const bool goes = name.starts_with("live") || name.ends_with("went");
        EXPECT_EQ(hosts.owner(), goes ? &hosts.destination : &hosts.source);
        expect_deletable(hosts);
    }
}

TEST(FaultMatrixOfLiveMigration, ADaemonIsKilledAtEveryBorder) {
    strike_everywhere(NovaWorld::Fault::Crash, 40);
}

TEST(FaultMatrixOfLiveMigration, EveryStepFailsOnce) {
    strike_everywhere(NovaWorld::Fault::Refuse, 20);
}

TEST(FaultMatrixOfLiveMigration, NothingAnswersForAWhileFromEveryStepOn) {
    strike_everywhere(NovaWorld::Fault::Outage, 20);
}

TEST(FaultMatrixOfLiveMigration, EveryAnswerIsLostOnce) {
    strike_everywhere(NovaWorld::Fault::NoAnswer, 10);
}

// A delete that comes while it is on its way ends where the guest is.
TEST(FaultMatrixOfLiveMigration, ADeleteFollowsTheGuest) {
    TwoHosts hosts;
    hosts.source.driver.on_copy = [&hosts] {
        hosts.source.driver.on_copy = {};
        hosts.source.set_task(task_states::kDeleting);
        (void)hosts.source.request("terminate_instance", Json::object({{"bdms", Json::array()}}));
        hosts.source.driver.abort = false;  // too late
    };
    live_migrate(hosts);
    hosts.deliver_all();
    hosts.let_time_pass();
    EXPECT_TRUE(hosts.database.is_deleted(NovaWorld::kUuid));
    expect_no_guest_here(hosts.source);
    expect_no_guest_here(hosts.destination);
    EXPECT_TRUE(hosts.cloud->cinder.attached.empty());
    EXPECT_TRUE(hosts.database.allocations.empty());
}

// While nobody can tell where the guest is a delete is refused, and the server keeps its state.
TEST(FaultMatrixOfLiveMigration, WhatIsNotDecidedIsNotDeleted) {
    TwoHosts hosts;
    hosts.source.driver.asks_until_decided = 1000;
    live_migrate(hosts);
    hosts.source.set_task(task_states::kDeleting);
    (void)hosts.source.request("terminate_instance", Json::object({{"bdms", Json::array()}}));
    EXPECT_FALSE(hosts.database.is_deleted(NovaWorld::kUuid));
    EXPECT_EQ(hosts.source.task_state(), "");
    EXPECT_EQ(hosts.source.driver.power(NovaWorld::kUuid), power_states::kRunning);
    hosts.restart(hosts.source);  // it is still asked after a restart
    hosts.let_time_pass();
    EXPECT_EQ(hosts.source.driver.owners[NovaWorld::kUuid], compute::GuestOwner::Undecided);
    hosts.source.driver.asks_until_decided = 1;
    hosts.let_time_pass();
    expect_whole(hosts, {"decided"});
    EXPECT_EQ(hosts.owner(), &hosts.destination);
}

// An operator says that the destination is off for good: what is left at the source decides.
TEST(FaultMatrixOfLiveMigration, WhatIsUndecidedWaitsForTheOtherHostOrForAnOperator) {
    for (const bool goes : {false, true}) {
        TwoHosts hosts;
        hosts.source.driver.asks_until_decided = 1000;
        hosts.source.driver.decides_to_go = goes;
        live_migrate(hosts);
        hosts.database.forced_down.insert(hosts.source.host);  // not the one that is asked
        hosts.let_time_pass();
        EXPECT_EQ(hosts.source.driver.owners[NovaWorld::kUuid], compute::GuestOwner::Undecided);
        EXPECT_EQ(hosts.source.task_state(), "migrating");
        hosts.database.forced_down = {hosts.destination.host};
        hosts.let_time_pass();
        expect_whole(hosts, {"fenced"});
        EXPECT_EQ(hosts.owner(), goes ? &hosts.destination : &hosts.source);
        expect_deletable(hosts);
    }
}

// The same at the destination: the source, which would close the records, is off.
TEST(FaultMatrixOfLiveMigration, ADestinationTakesTheGuestOfASourceThatIsForcedDown) {
    TwoHosts hosts;
    hosts.source.driver.asks_until_decided = 1000;
    live_migrate(hosts);
    auto& driver = hosts.destination.driver;
    driver.set_guest(NovaWorld::kUuid, power_states::kRunning);
    driver.owners[NovaWorld::kUuid] = compute::GuestOwner::Undecided;
    driver.unfinished.insert(NovaWorld::kUuid);
    driver.asks_until_decided = 1000;
    driver.decides_to_go = false;  // fenced, it is simply here
    hosts.destination.let_time_pass();
    EXPECT_EQ(hosts.owner(), &hosts.source);
    hosts.database.forced_down = {hosts.source.host};
    hosts.destination.let_time_pass();
    EXPECT_EQ(hosts.owner(), &hosts.destination);
    EXPECT_EQ(hosts.destination.task_state(), "");
    EXPECT_EQ(migration_of(hosts).string_or("status"), "completed");
    EXPECT_EQ(hosts.database.allocations,
              std::set<std::string>{allocation(NovaWorld::kUuid, kDestination)});
    EXPECT_EQ(hosts.cloud->cinder.attached.size(), 1u) << "not to the host that is off";
}

}  // namespace
}  // namespace kumoi::nova
