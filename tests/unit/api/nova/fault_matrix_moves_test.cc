// The fault matrix (fault_matrix_test.cc) for servers that move between two hosts of one cloud,
// with a volume and a port: resize, cold migration, their confirmation and their way back,
// evacuation. Afterwards the server is on one host, whole, and nothing of it is on the other.
#include "tests/support/two_hosts.h"

namespace kumoi::nova {
namespace {

using namespace fault_matrix;
using namespace fault_matrix::two_hosts;

// As conductor begins it: the migration holds what the server has.
void move(TwoHosts& hosts, bool resize) {
    add_migration(hosts, resize ? "resize" : "migration", "pre-migrating");
    hosts.database.allocations = {allocation(kMigration, kSource),
                                  allocation(NovaWorld::kUuid, kDestination)};
    hosts.source.set_task(task_states::kResizePrep);
    Json args = NovaWorld::arguments_of("compute.prep_resize");
    if (resize) {
        args["flavor"]["nova_object.data"].set("flavorid", "large");
        args["flavor"]["nova_object.data"].set("memory_mb", 2560);
    }
    hosts.ask(hosts.destination, "prep_resize", std::move(args));
}

void resize(TwoHosts& hosts) {
    move(hosts, true);
}

void confirm(TwoHosts& hosts) {
    set_status(hosts, "confirming");
    hosts.ask(hosts.source, "confirm_resize", Json::object());
}

void revert(TwoHosts& hosts) {
    set_status(hosts, "reverting");
    hosts.source.set_task(task_states::kResizeReverting);
    hosts.ask(hosts.destination, "revert_resize", Json::object());
}

// The source is dead: only its records and what is on it are there.
void evacuate(TwoHosts& hosts) {
    add_migration(hosts, "evacuation", "accepted");
    hosts.database.allocations = {allocation(NovaWorld::kUuid, kSource),
                                  allocation(NovaWorld::kUuid, kDestination)};
    hosts.source.set_task(task_states::kRebuilding);
    Json args = NovaWorld::arguments_of("compute.rebuild_instance");
    args.set("recreate", true);
    args.set("on_shared_storage", nullptr);
    args.set("scheduled_node", hosts.destination.host);
    hosts.ask(hosts.destination, "rebuild_instance", std::move(args), "6.1");
}

struct Move {
    const char* name;
    std::function<void(TwoHosts&)> prepare;  // none: a running server on the source
    std::function<void(TwoHosts&)> act;
    std::set<std::string> ends;
    bool source_is_dead = false;
};

std::vector<Move> moves() {
    return {
        {"resize", {}, resize, {"resized", "active", "error"}},
        {"cold migrate",
         {},
         [](TwoHosts& hosts) { move(hosts, false); },
         {"resized", "active", "error"}},
        {"confirm", resize, confirm, {"active", "resized", "error"}},
        {"revert", resize, revert, {"active", "resized", "error"}},
        {"evacuate", {}, evacuate, {"active", "error"}, true},
    };
}

void expect_whole(TwoHosts& hosts, const Move& one) {
    const std::string vm_state = hosts.source.vm_state();
    EXPECT_EQ(hosts.source.task_state(), "");
    EXPECT_TRUE(hosts.database.open_events.empty()) << *hosts.database.open_events.begin();
    EXPECT_TRUE(one.ends.contains(vm_state)) << vm_state;
    const bool untold = hosts.cloud->struck.find("InstanceFault.create") != std::string::npos;
    EXPECT_TRUE(vm_state != "error" || hosts.database.faults[NovaWorld::kUuid] > 0 || untold);
    if (vm_state == "error" || hosts.owner() == nullptr) {
        return;
    }
    NovaWorld& here = *hosts.owner();
    NovaWorld& other = &here == &hosts.source ? hosts.destination : hosts.source;
    expect_guest(here);
    expect_no_guest(other);
    expect_volume_attached(hosts);
    EXPECT_TRUE(here.driver.kept.empty());
    const char* provider = &here == &hosts.source ? kSource : kDestination;
    std::set<std::string> allocations = {allocation(NovaWorld::kUuid, provider)};
    if (vm_state == "resized") {
        EXPECT_EQ(&here, &hosts.destination);
        EXPECT_EQ(other.driver.kept.size(), 1u);
        allocations.insert(allocation(kMigration, kSource));
    } else {
        EXPECT_TRUE(other.driver.kept.empty());
    }
    EXPECT_EQ(hosts.database.allocations, allocations);
}

// As nova-api: what is not confirmed is confirmed first.
void expect_deletable(TwoHosts& hosts) {
    if (hosts.source.vm_state() == "resized") {
        confirm(hosts);
    }
    NovaWorld* here = hosts.owner();
    ASSERT_NE(here, nullptr);
    here->set_task(task_states::kDeleting);
    (void)here->request("terminate_instance", Json::object({{"bdms", Json::array()}}));
    hosts.let_time_pass();
    EXPECT_TRUE(hosts.database.is_deleted(NovaWorld::kUuid));
    for (NovaWorld* world : {&hosts.source, &hosts.destination}) {
        expect_no_guest(*world);
        EXPECT_TRUE(world->driver.kept.empty()) << world->host;
        world->manager.reset();
        EXPECT_EQ(world->open_operations(), 0u) << world->host;
    }
    EXPECT_EQ(hosts.cloud->network.port_count(), 0u);
    EXPECT_TRUE(hosts.cloud->cinder.attached.empty());
    for (const std::string& left : hosts.database.allocations) {
        ADD_FAILURE() << "allocation " << left;
    }
}

// False: the operation has no such border.
bool strike(TwoHosts& hosts, const Move& one, NovaWorld::Fault fault, int border) {
    if (one.prepare) {
        one.prepare(hosts);
    }
    if (one.source_is_dead) {
        hosts.source.endpoint.reset();
        hosts.source.manager.reset();
    }
    hosts.cloud->arm(fault, border);
    one.act(hosts);
    return hosts.crashed || !hosts.cloud->disarm();
}

void strike_everywhere(NovaWorld::Fault fault, int least_borders) {
    for (const Move& one : moves()) {
        const bool failed_before = testing::Test::HasFailure();
        int border = 1;
        for (bool struck = true; struck && border < kBordersMax; ++border) {
            TwoHosts hosts;
            struck = strike(hosts, one, fault, border);
            SCOPED_TRACE(fmt::format("{}, border {}: {}", one.name, border, hosts.cloud->struck));
            if (one.source_is_dead) {
                hosts.restart(hosts.source);
            }
            hosts.let_time_pass();
            if (hosts.crashed && hosts.source.task_state() == task_states::kResizePrep) {
                hosts.restart(hosts.source);  // the destination has lost the request: recovery.md
                hosts.let_time_pass();
            }
            if (hosts.crashed && hosts.source.task_state() == task_states::kRebuilding) {
                continue;  // as above, and the source cannot know: the operator resets its state
            }
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

TEST(FaultMatrixOfMoves, ADaemonIsKilledAtEveryBorder) {
    strike_everywhere(NovaWorld::Fault::Crash, 8);
}

TEST(FaultMatrixOfMoves, EveryStepFailsOnce) {
    strike_everywhere(NovaWorld::Fault::Refuse, 4);
}

TEST(FaultMatrixOfMoves, NothingAnswersForAWhileFromEveryStepOn) {
    strike_everywhere(NovaWorld::Fault::Outage, 4);
}

TEST(FaultMatrixOfMoves, EveryAnswerIsLostOnce) {
    strike_everywhere(NovaWorld::Fault::NoAnswer, 3);
}

}  // namespace
}  // namespace kumoi::nova
