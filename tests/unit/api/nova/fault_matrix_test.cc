// Every operation of a server in a Nova cloud, with a fault at every step it takes outwards: the
// daemon is killed there, or what it asks is refused, or nobody answers for a while, or the answer
// is lost. Afterwards the server is in a state its owner can go on from, nothing is left of what
// was not finished, and deleting it leaves nothing at all.
#include <algorithm>

#include "tests/support/nova_world.h"

namespace kumoi::nova {
namespace {

using test::Crash;
using test::NovaWorld;
namespace vm_states = compute::vm_states;
namespace task_states = compute::task_states;
namespace power_states = compute::power_states;

constexpr int kBordersMax = 300;  // far beyond any operation: the loops end by themselves

struct Case {
    const char* name;
    std::function<void(NovaWorld&)> prepare;  // none: a running server
    std::function<void(NovaWorld&)> act;
    std::set<std::string> ends;  // vm_states that are fine afterwards
};

void build(NovaWorld& world) {
    world.order();
    (void)world.build();
}

std::function<void(NovaWorld&)> verb(const char* task, const char* method,
                                     Json args = Json::object()) {
    return [=](NovaWorld& world) {
        world.set_task(task);
        (void)world.request(method, args);
    };
}

void snapshot(NovaWorld& world) {
    const std::string image = world.queue_image();
    world.set_task(task_states::kImageSnapshotPending);
    (void)world.request("snapshot_instance", Json::object({{"image_id", image}}));
}

void shelve(NovaWorld& world) {
    const std::string image = world.queue_image();
    world.set_task(task_states::kShelving);
    (void)world.request("shelve_instance",
                        Json::object({{"image_id", image}, {"clean_shutdown", true}}));
}

void rebuild(NovaWorld& world) {
    Json args = NovaWorld::arguments_of("compute.rebuild_instance");
    world.set_task(task_states::kRebuilding);
    args.set("instance", world.database.primitive(NovaWorld::kUuid));
    args.set("recreate", false);
    (void)world.request("rebuild_instance", std::move(args), "6.1");
}

void unshelve(NovaWorld& world) {
    world.set_task(task_states::kUnshelving);
    world.database.allocations.insert(NovaWorld::kUuid);  // by the scheduler
    Json args = Json::object({{"image", Json::object()},
                              {"filter_properties", Json::object()},
                              {"node", NovaWorld::kHost}});
    (void)world.request("unshelve_instance", std::move(args));
}

void terminate(NovaWorld& world) {
    world.set_task(task_states::kDeleting);
    (void)world.request("terminate_instance", Json::object({{"bdms", Json::array()}}));
}

std::vector<Case> cases() {
    const auto stop = verb(task_states::kPoweringOff, "stop_instance");
    const auto pause = verb(task_states::kPausing, "pause_instance");
    const auto suspend = verb(task_states::kSuspending, "suspend_instance");
    const auto rescue = verb(task_states::kRescuing, "rescue_instance",
                             Json::object({{"rescue_password", "secret"}}));
    return {
        {"build",
         [](NovaWorld& world) { world.order(); },
         [](NovaWorld& world) { (void)world.build(); },
         {"active", "error", "building"}},
        {"stop", build, stop, {"active", "stopped"}},
        {"start",
         [stop](NovaWorld& world) {
             build(world);
             stop(world);
         },
         verb(task_states::kPoweringOn, "start_instance"),
         {"active", "stopped"}},
        {"reboot",
         build,
         verb(task_states::kRebootingHard, "reboot_instance",
              Json::object({{"reboot_type", "HARD"}})),
         {"active", "error"}},
        {"pause", build, pause, {"active", "paused"}},
        {"unpause",
         [pause](NovaWorld& world) {
             build(world);
             pause(world);
         },
         verb(task_states::kUnpausing, "unpause_instance"),
         {"active", "paused"}},
        {"suspend", build, suspend, {"active", "suspended", "stopped"}},
        {"resume",
         [suspend](NovaWorld& world) {
             build(world);
             suspend(world);
         },
         verb(task_states::kResuming, "resume_instance"),
         {"active", "suspended", "error"}},
        {"rescue", build, rescue, {"active", "rescued", "error", "stopped"}},
        {"unrescue",
         [rescue](NovaWorld& world) {
             build(world);
             rescue(world);
         },
         verb(task_states::kUnrescuing, "unrescue_instance"),
         {"active", "rescued", "error"}},
        {"snapshot", build, snapshot, {"active"}},
        {"rebuild", build, rebuild, {"active", "error"}},
        {"shelve", build, shelve, {"active", "shelved", "shelved_offloaded", "stopped", "error"}},
        {"unshelve",
         [](NovaWorld& world) {
             build(world);
             shelve(world);
         },
         unshelve,
         {"active", "shelved_offloaded", "error"}},
        {"delete", build, terminate, {"error", "active"}},
        {"soft delete",
         build,
         verb(task_states::kSoftDeleting, "soft_delete_instance"),
         {"soft-delete", "active", "error"}},
    };
}

void expect_nothing_here(const NovaWorld& world, size_t ports) {
    EXPECT_EQ(world.driver.guest_count(), 0u);
    EXPECT_TRUE(world.vifs.taps().empty());
    EXPECT_EQ(world.network.port_count(), ports);
    EXPECT_TRUE(world.database.allocations.empty());
}

void expect_whole(const NovaWorld& world, const std::string& vm_state) {
    EXPECT_EQ(world.driver.guest_count(), 1u);
    EXPECT_EQ(world.network.port_count(), 1u);
    if (vm_state != "shelved") {  // about to leave: plugged again when it is started
        EXPECT_EQ(world.vifs.taps().size(), 1u);
    }
    EXPECT_EQ(world.database.allocations.size(), 1u);
    EXPECT_EQ(world.database.text(NovaWorld::kUuid, "host"), NovaWorld::kHost);
    const int power = world.driver.power(NovaWorld::kUuid);
    if (vm_state == "active" || vm_state == "rescued") {
        EXPECT_EQ(power, power_states::kRunning);
    } else if (vm_state == "paused") {
        EXPECT_EQ(power, power_states::kPaused);
    } else {
        EXPECT_EQ(power, power_states::kShutdown);
    }
}

void expect_correct(NovaWorld& world, const Case& one) {
    EXPECT_EQ(world.task_state(), world.vm_state() == "building" ? "scheduling" : "");
    EXPECT_TRUE(world.database.open_events.empty()) << *world.database.open_events.begin();
    const std::string vm_state = world.vm_state();
    if (world.database.is_deleted(NovaWorld::kUuid)) {
        expect_nothing_here(world, 0);
        return;
    }
    EXPECT_TRUE(one.ends.contains(vm_state)) << vm_state;
    const bool placed = !world.database.text(NovaWorld::kUuid, "host").empty();
    if (vm_state == "shelved_offloaded") {
        expect_nothing_here(world, 1);
    } else if (vm_state == "building") {  // another host has it now
        expect_nothing_here(world, 0);
        EXPECT_EQ(std::ranges::count(world.database.casts, "build_instances"), 1);
    } else if (vm_state != "error") {
        expect_whole(world, vm_state);
    } else if (!placed) {
        expect_nothing_here(world, 0);
    }
    EXPECT_TRUE(vm_state != "error" || world.database.faults[NovaWorld::kUuid] > 0);
    for (const compute::ImageMeta& image : world.images.list({}, {}).value()) {
        const bool kept = world.struck.find("images.remove") != std::string::npos;
        EXPECT_TRUE(image.status == "active" || kept) << image.status;
    }
}

void expect_deletable(NovaWorld& world) {
    if (world.database.is_deleted(NovaWorld::kUuid)) {
        return;
    }
    if (world.database.text(NovaWorld::kUuid, "host").empty()) {
        return;  // nova-api deletes it without us
    }
    terminate(world);
    EXPECT_TRUE(world.database.is_deleted(NovaWorld::kUuid));
    expect_nothing_here(world, 0);
}

bool strike(NovaWorld& world, const Case& one, NovaWorld::Fault fault, int border) {
    world.start_node();
    (one.prepare ? one.prepare : build)(world);
    world.arm(fault, border);
    try {
        one.act(world);
    } catch (const Crash&) {
        world.left = -1;
        world.clock.advance(kNanosPerSecond);
        world.start_node();
        return true;
    }
    return !world.disarm();
}

void strike_everywhere(NovaWorld::Fault fault, int least_borders) {
    for (const Case& one : cases()) {
        const bool failed_before = testing::Test::HasFailure();
        int border = 1;
        for (bool struck = true; struck && border < kBordersMax; ++border) {
            NovaWorld world;
            struck = strike(world, one, fault, border);
            SCOPED_TRACE(fmt::format("{}, border {}: {}", one.name, border, world.struck));
            world.let_time_pass();
            expect_correct(world, one);
            expect_deletable(world);
            world.manager.reset();
            EXPECT_EQ(world.open_operations(), 0u);
            if (testing::Test::HasFailure() && !failed_before) {
                break;  // the first of each operation tells enough
            }
        }
        EXPECT_TRUE(border > least_borders || testing::Test::HasFailure())
            << one.name << " was hardly tried";
        EXPECT_LT(border, kBordersMax) << one.name;
    }
}

TEST(FaultMatrix, TheDaemonIsKilledAtEveryBorder) {
    strike_everywhere(NovaWorld::Fault::Crash, 8);
}

TEST(FaultMatrix, EveryStepFailsOnce) {
    strike_everywhere(NovaWorld::Fault::Refuse, 4);
}

TEST(FaultMatrix, NothingAnswersForAWhileFromEveryStepOn) {
    strike_everywhere(NovaWorld::Fault::Outage, 4);
}

TEST(FaultMatrix, EveryAnswerIsLostOnce) {
    strike_everywhere(NovaWorld::Fault::NoAnswer, 3);
}

}  // namespace
}  // namespace kumoi::nova
