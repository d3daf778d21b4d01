#include "compute/manager/move_tasks.h"

#include "tests/support/move_fakes.h"

namespace kumoi::compute {
namespace {

using moving::kServer;
using moving::World;

constexpr int kBordersMax = 200;

void expect_on_source(const World& world, const std::string& where,
                      const char* vm_state = vm_states::kActive) {
    const Instance server = world.server();
    EXPECT_EQ(server.host, "cn-1") << where;
    EXPECT_EQ(server.vm_state, vm_state) << where;
    EXPECT_EQ(server.task_state, std::nullopt) << where << *server.task_state;
    EXPECT_EQ(server.flavor.flavor_id, "small") << where;
    EXPECT_FALSE(server.new_flavor || server.old_flavor) << where;
    EXPECT_FALSE(server.system_metadata.contains("old_vm_state")) << where;
    EXPECT_EQ(world.source.driver.disk(kServer).data, "precious") << where;
    EXPECT_EQ(world.running(), 1) << where;
    EXPECT_EQ(world.source.driver.power(kServer), power_states::kRunning) << where;
    EXPECT_EQ(world.destination.driver.guest_count(), 0u) << where;
    EXPECT_TRUE(world.source.driver.kept.empty()) << where;
    EXPECT_EQ(world.cloud.allocations.at(kServer), "cn-1") << where;
    EXPECT_EQ(world.cloud.allocations.size(), 1u) << where;
}

void expect_resized(const World& world, const std::string& where) {
    const Instance server = world.server();
    EXPECT_EQ(server.host, "cn-2") << where;
    EXPECT_EQ(server.vm_state, vm_states::kResized) << where;
    EXPECT_EQ(server.task_state, std::nullopt) << where;
    EXPECT_EQ(server.flavor.flavor_id, "large") << where;
    EXPECT_EQ(world.destination.driver.disk(kServer).data, "precious") << where;
    EXPECT_EQ(world.running(), 1) << where;
    EXPECT_EQ(world.status(), "finished") << where;
    EXPECT_EQ(world.source.driver.kept.at(kServer), "precious") << where;
}

TEST(MoveTasks, AServerMovesAndIsConfirmed) {
    World world;
    world.make_server();
    world.ask_for_move();
    world.deliver_all();
    expect_resized(world, "");
    EXPECT_EQ(
        world.conductor.task_state_history(kServer),
        (std::vector<std::string>{"resize_migrating", "resize_migrated", "resize_finish", "-"}));
    EXPECT_TRUE(world.conductor.open_events().empty());
    world.ask("cn-1", MoveStep::ConfirmResize);
    world.deliver_all();
    const Instance server = world.server();
    EXPECT_EQ(server.vm_state, vm_states::kActive);
    EXPECT_FALSE(server.new_flavor || server.old_flavor);
    EXPECT_EQ(world.status(), "confirmed");
    EXPECT_TRUE(world.source.driver.kept.empty());
    EXPECT_EQ(world.source.driver.guest_count(), 0u);
    EXPECT_EQ(world.cloud.allocations, (std::map<std::string, std::string>{{kServer, "cn-2"}}));
    EXPECT_EQ(world.conductor.fault_count(kServer), 0u);
}

TEST(MoveTasks, ARevertBringsItBackAsItWas) {
    World world;
    world.make_server();
    world.ask_for_move();
    world.deliver_all();
    world.destination.driver.write(kServer, "changed");
    world.set_task(task_states::kResizeReverting);
    world.ask("cn-2", MoveStep::RevertResize);
    world.deliver_all();
    expect_on_source(world, "");
    EXPECT_EQ(world.status(), "reverted");
}

TEST(MoveTasks, AServerThatComesBackGetsTheBackEndsItsVolumesHaveNow) {
    World world;
    world.make_server();
    world.source.cinder.volumes["vol-1"] = {.id = "vol-1", .status = "in-use", .size_gb = 1};
    world.source.cinder.attached["of-1"] = {"vol-1", kServer, true, true};
    BlockDevice device;
    device.instance_uuid = kServer;
    device.volume_id = "vol-1";
    device.destination_type = "volume";
    device.device_name = "/dev/vdb";
    device.attachment_id = "of-1";
    device.connection_info = Json::object({{"driver_volume_type", "test"}});
    world.source.devices.add(device);
    world.ask_for_move();
    world.deliver_all();
    world.source.volume_host.folder = "/now/";
    world.set_task(task_states::kResizeReverting);
    world.ask("cn-2", MoveStep::RevertResize);
    world.deliver_all();
    const std::map<std::string, std::string> sockets = {{"vol-1", "/now/vol-1"}};
    EXPECT_EQ(world.source.driver.volumes(kServer), sockets);
    EXPECT_EQ(world.source.driver.power(kServer), power_states::kRunning);
}

TEST(MoveTasks, AStoppedServerStaysStopped) {
    World world;
    world.make_server(vm_states::kStopped);
    world.ask_for_move();
    world.deliver_all();
    EXPECT_EQ(world.running(), 0);
    world.ask("cn-1", MoveStep::ConfirmResize);
    world.deliver_all();
    EXPECT_EQ(world.server().vm_state, vm_states::kStopped);
    EXPECT_EQ(world.running(), 0);
}

TEST(MoveTasks, AConfirmationThatComesTwiceChangesNothing) {
    World world;
    world.make_server();
    world.ask_for_move();
    world.deliver_all();
    world.ask("cn-1", MoveStep::ConfirmResize);
    world.deliver_all();
    Instance server = world.server();
    server.vm_state = vm_states::kStopped;
    server.power_state = power_states::kRunning;
    world.conductor.add(server);
    world.ask("cn-1", MoveStep::ConfirmResize);
    world.deliver_all();
    EXPECT_EQ(world.server().vm_state, vm_states::kStopped);
}

TEST(MoveTasks, WhateverFailsBeforeTheGuestRunsLeavesTheServerWhereItWas) {
    for (const char* call : {"moves.check_peer", "moves.prepare", "moves.cast", "moves.save_host",
                             "driver.migrate_disk_away", "driver.receive_disk", "vifs.plug",
                             "driver.finish_migration"}) {
        World world;
        world.make_server();
        world.ask_for_move();
        bool failed = false;
        world.log.fail = [&](const std::string& name) -> Result<void> {
            if (name != call || failed) {
                return {};
            }
            failed = true;
            return Error::unavailable("{} was told to fail", call);
        };
        world.deliver_all();
        if (!failed) {
            continue;  // a server without ports has nothing to plug
        }
        expect_on_source(world, call);
        EXPECT_EQ(world.conductor.fault_count(kServer), 1u) << call;
        EXPECT_EQ(world.status(), "error") << call;
    }
}

TEST(MoveTasks, AFullDestinationPassesTheServerOn) {
    World world;
    world.make_server();
    world.cloud.may_reschedule = true;
    world.large.memory_mb = int64_t{1} << 40;
    world.ask_for_move();
    world.deliver_all();
    EXPECT_EQ(world.cloud.rescheduled, std::vector<std::string>{kServer});
    EXPECT_EQ(world.server().task_state, task_states::kResizePrep);  // conductor's now
    EXPECT_EQ(world.source.driver.power(kServer), power_states::kRunning);
}

TEST(MoveTasks, TheSameFlavorOnTheSameHostIsRefused) {
    World world;
    world.make_server();
    world.large = world.small;
    world.ask_for_move();
    world.cloud.casts.front().host = "cn-1";
    world.deliver_all();
    EXPECT_EQ(world.server().fault->message,
              "Unable to migrate instance (" + kServer + ") to current host (cn-1).");
    EXPECT_EQ(world.server().task_state, std::nullopt);
}

TEST(MoveTasks, AResizeOnTheSameHostKeepsItsDisksThere) {
    World world;
    world.make_server();
    world.ask_for_move();
    world.cloud.casts.front().host = "cn-1";
    world.deliver_all();
    EXPECT_EQ(world.server().vm_state, vm_states::kResized);
    EXPECT_EQ(world.server().flavor.flavor_id, "large");
    EXPECT_EQ(world.source.driver.power(kServer), power_states::kRunning);
    world.set_task(task_states::kResizeReverting);
    world.ask("cn-1", MoveStep::RevertResize);
    world.deliver_all();
    EXPECT_EQ(world.server().vm_state, vm_states::kActive);
    EXPECT_EQ(world.server().flavor.flavor_id, "small");
    EXPECT_EQ(world.source.driver.disk(kServer).data, "precious");
    EXPECT_EQ(world.running(), 1);
}

// Either host, at every border of every step: one guest in the end, with its data, and free.
TEST(MoveTasks, AKilledHostLosesNothing) {
    int border = 1;
    for (; border < kBordersMax; ++border) {
        World world;
        world.make_server();
        world.ask_for_move();
        if (!world.deliver_with_crash(border)) {
            break;
        }
        const std::string where = "border " + std::to_string(border);
        if (world.server().host == "cn-2") {
            expect_resized(world, where);
        } else if (world.server().task_state == task_states::kResizePrep) {
            // The request died with the daemon before it was noted: nothing was touched.
            EXPECT_EQ(world.source.driver.power(kServer), power_states::kRunning) << where;
        } else {
            expect_on_source(world, where);
        }
    }
    EXPECT_GT(border, 30);
    EXPECT_LT(border, kBordersMax);
}

TEST(MoveTasks, AHostKilledDuringARevertOrAConfirmationFinishesIt) {
    for (const bool revert : {false, true}) {
        for (int border = 1; border < kBordersMax; ++border) {
            World world;
            world.make_server();
            world.ask_for_move();
            world.deliver_all();
            if (revert) {
                world.set_task(task_states::kResizeReverting);
            }
            world.ask(revert ? "cn-2" : "cn-1",
                      revert ? MoveStep::RevertResize : MoveStep::ConfirmResize);
            if (!world.deliver_with_crash(border)) {
                EXPECT_GT(border, 10);
                break;
            }
            const std::string where = "border " + std::to_string(border);
            EXPECT_EQ(world.running(), 1) << where;
            const bool begun = revert ? world.server().task_state != task_states::kResizeReverting
                                      : world.status() == "confirmed";
            if (!begun) {
                continue;  // the request died before it was noted
            }
            if (revert) {
                expect_on_source(world, where);
            } else {
                EXPECT_EQ(world.server().vm_state, vm_states::kActive) << where;
                EXPECT_FALSE(world.server().new_flavor) << where;
                EXPECT_TRUE(world.source.driver.kept.empty()) << where;
                EXPECT_FALSE(world.cloud.allocations.contains("move-1")) << where;
            }
        }
    }
}

}  // namespace
}  // namespace kumoi::compute
