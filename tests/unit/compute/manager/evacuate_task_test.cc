#include "compute/manager/evacuate_task.h"

#include "tests/support/move_fakes.h"

namespace kumoi::compute {
namespace {

using moving::kServer;
using moving::World;

// cn-1 is down; its server is asked for on cn-2.
void ask(World& world) {
    world.make_server();
    world.source.manager.reset();
    world.set_task(task_states::kRebuilding);
    world.cloud.allocations = {{kServer + "@cn-1", "cn-1"}, {kServer + "@cn-2", "cn-2"}};
    world.ask("cn-2", MoveStep::Evacuate);
}

TEST(EvacuateTask, AServerIsMadeAgainHere) {
    World world;
    ask(world);
    world.deliver_all();
    const Instance server = world.server();
    EXPECT_EQ(server.host, "cn-2");
    EXPECT_EQ(server.vm_state, vm_states::kActive);
    EXPECT_EQ(server.task_state, std::nullopt);
    EXPECT_EQ(world.status(), "done");
    EXPECT_EQ(world.destination.driver.power(kServer), power_states::kRunning);
    EXPECT_EQ(world.destination.driver.disk(kServer).data, "");  // from the image
}

TEST(EvacuateTask, OnSharedStorageItKeepsItsDisk) {
    World world;
    ask(world);
    world.destination.driver.shared_disks = true;
    world.destination.driver.write(kServer, "shared");
    world.deliver_all();
    EXPECT_EQ(world.server().host, "cn-2");
    EXPECT_EQ(world.destination.driver.disk(kServer).data, "shared");
    EXPECT_EQ(world.log.count("driver.spawn"), 0u);
}

TEST(EvacuateTask, AStoppedServerStaysStopped) {
    for (const bool asked : {false, true}) {
        World world;
        ask(world);
        if (asked) {
            world.cloud.casts.front().request.leave_stopped = true;
        } else {
            Instance server = world.server();
            server.vm_state = vm_states::kStopped;
            world.conductor.add(server);
        }
        world.deliver_all();
        EXPECT_EQ(world.server().vm_state, vm_states::kStopped);
        EXPECT_EQ(world.destination.driver.power(kServer), power_states::kShutdown);
    }
}

TEST(EvacuateTask, AWrongWordAboutSharedStorageIsRefused) {
    World world;
    ask(world);
    world.cloud.casts.front().request.on_shared_storage = true;
    world.deliver_all();
    EXPECT_EQ(world.server().host, "cn-1");
    EXPECT_EQ(world.server().vm_state, vm_states::kActive);  // another host may take it
    EXPECT_EQ(world.server().task_state, std::nullopt);
    EXPECT_EQ(world.status(), "failed");
    EXPECT_EQ(world.conductor.fault_count(kServer), 1u);
    EXPECT_FALSE(world.cloud.allocations.contains(kServer + "@cn-2"));
}

TEST(EvacuateTask, AFailureLeavesNothingHereAndTheServerInError) {
    for (const char* call : {"driver.spawn", "moves.save_host"}) {
        World world;
        ask(world);
        world.log.fail = [&](const std::string& name) -> Result<void> {
            return name == call ? Result<void>(Error::unavailable("no")) : Result<void>();
        };
        world.deliver_all();
        EXPECT_EQ(world.server().host, "cn-1") << call;
        EXPECT_EQ(world.server().vm_state, vm_states::kError) << call;
        EXPECT_EQ(world.server().task_state, std::nullopt) << call;
        EXPECT_EQ(world.destination.driver.guest_count(), 0u) << call;
        EXPECT_EQ(world.status(), "failed") << call;
    }
}

TEST(EvacuateTask, ASharedDiskOutlivesAFailureAndARestart) {
    World world;
    ask(world);
    world.destination.driver.shared_disks = true;
    world.destination.driver.write(kServer, "shared");
    for (int border = 1; border < 100; ++border) {
        world.set_task(task_states::kRebuilding);
        world.ask("cn-2", MoveStep::Evacuate);
        if (!world.deliver_with_crash(border)) {
            break;
        }
        EXPECT_EQ(world.destination.driver.disk(kServer).data, "shared") << border;
        if (world.server().host == "cn-2") {
            break;
        }
    }
    EXPECT_EQ(world.destination.driver.disk(kServer).data, "shared");
}

TEST(EvacuateTask, AHostThatComesBackRemovesWhatLeftIt) {
    World world;
    ask(world);
    world.deliver_all();
    world.cloud.evacuated = {{kServer, "move-1", "cn-2", true}};
    world.start("cn-1");
    EXPECT_EQ(world.source.driver.guest_count(), 0u);
    EXPECT_EQ(world.destination.driver.power(kServer), power_states::kRunning);
    EXPECT_EQ(world.cloud.completed, std::vector<std::string>{kServer});
    EXPECT_FALSE(world.cloud.allocations.contains(kServer + "@cn-1"));
}

TEST(EvacuateTask, AHostThatComesBackEndsTheBackEndsOfItsVolumes) {
    for (const char* now_on : {"cn-2", "cn-1"}) {  // cn-1: it is recorded here until that is done
        World world;
        ask(world);
        world.source.volume_host.running = {{kServer, "vol-1"}};
        world.cloud.evacuated = {{kServer, "move-1", now_on, false}};
        world.start("cn-1");
        EXPECT_TRUE(world.source.volume_host.running.empty()) << now_on;
    }
}

TEST(EvacuateTask, AHostThatComesBackToSharedDisksLeavesThem) {
    World world;
    ask(world);
    world.deliver_all();
    world.cloud.shared_storage = true;
    world.source.driver.has_probes = true;
    world.cloud.evacuated = {{kServer, "move-1", "cn-2", true}};
    world.start("cn-1");
    EXPECT_EQ(world.source.driver.disk(kServer).data, "precious");
    EXPECT_NE(world.source.driver.power(kServer), power_states::kRunning);
}

TEST(EvacuateTask, AHostThatComesBackTooEarlyEndsTheGuestAndTouchesNothingElse) {
    World world;
    ask(world);
    world.cloud.evacuated = {{kServer, "move-1", "cn-1", false}};
    world.start("cn-1");
    EXPECT_EQ(world.source.driver.disk(kServer).data, "precious");
    EXPECT_NE(world.source.driver.power(kServer), power_states::kRunning);
    EXPECT_EQ(world.server().task_state, task_states::kRebuilding);
    EXPECT_TRUE(world.cloud.completed.empty());
}

}  // namespace
}  // namespace kumoi::compute
