// Kills a node (by an exception that no code of ours catches) at every border it crosses and every
// record it writes, restarts it, and looks whether anything leaked or hangs.
#include <gtest/gtest.h>

#include "tests/support/crash_world.h"

namespace kumoi::compute {
namespace {

using namespace crash;

void expect_whole_or_nothing(World& world, int border) {
    SCOPED_TRACE("crash at border " + std::to_string(border));
    const Instance instance = world.conductor.get(kUuid);
    EXPECT_TRUE(world.conductor.open_events().empty());
    world.manager.reset();
    EXPECT_EQ(world.open_operations(), 0u);
    if (instance.vm_state == vm_states::kActive) {
        EXPECT_FALSE(instance.task_state);
        EXPECT_EQ(world.driver.power(kUuid), power_states::kRunning);
        EXPECT_EQ(world.network.port_count(), 1u);
        EXPECT_EQ(world.vifs.taps().size(), 1u);
        return;
    }
    EXPECT_EQ(instance.task_state, task_states::kScheduling) << instance.vm_state;
    EXPECT_EQ(world.driver.guest_count(), 0u);
    EXPECT_EQ(world.network.port_count(), 0u);
    EXPECT_TRUE(world.vifs.taps().empty());
}

TEST(CrashRecovery, ABuildIsFinishedOrUndone) {
    bool crashed = true;
    int finished_forward = 0;
    for (int border = 1; crashed && border < kBordersMax; ++border) {
        World world;
        world.start_node();
        crashed = world.crashes(border, [&] { world.build(); });
        world.start_node();
        finished_forward +=
            crashed && world.conductor.get(kUuid).vm_state == vm_states::kActive ? 1 : 0;
        expect_whole_or_nothing(world, border);
    }
    EXPECT_FALSE(crashed);
    EXPECT_GT(finished_forward, 2);
}

TEST(CrashRecovery, ARollbackIsFinished) {
    bool crashed = true;
    for (int border = 1; crashed && border < kBordersMax; ++border) {
        World world;
        world.start_node();
        world.log.fail = [](const std::string& name) -> Result<void> {
            return name == "driver.spawn" ? Result<void>(Error::unavailable("no")) : Result<void>();
        };
        crashed = world.crashes(border, [&] { world.build(); });
        world.start_node();
        expect_whole_or_nothing(world, border);
    }
    EXPECT_FALSE(crashed);
}

TEST(CrashRecovery, ACrashDuringRecoveryIsRecoveredFrom) {
    bool crashed = true;
    for (int border = 1; crashed && border < kBordersMax; ++border) {
        World world;
        world.start_node();
        ASSERT_TRUE(world.crashes(20, [&] { world.build(); }));
        crashed = world.crashes(border, [&] { world.start_node(); });
        world.start_node();
        expect_whole_or_nothing(world, border);
    }
    EXPECT_FALSE(crashed);
}

TEST(CrashRecovery, ADeleteIsFinished) {
    bool crashed = true;
    for (int border = 1; crashed && border < kBordersMax; ++border) {
        World world;
        world.start_node();
        world.build();
        world.build(kOther);
        world.set_task(task_states::kDeleting);
        crashed = world.crashes(
            border, [&] { (void)world.manager->terminate_instance(world.context, kUuid); });
        world.start_node();
        SCOPED_TRACE("crash at border " + std::to_string(border));
        EXPECT_FALSE(world.conductor.has(kUuid));
        EXPECT_EQ(world.driver.guest_count(), 1u);
        EXPECT_EQ(world.network.port_count(), 1u);
        EXPECT_EQ(world.vifs.taps().size(), 1u);
        EXPECT_TRUE(world.conductor.open_events().empty());
        EXPECT_EQ(world.manager->compute_node().running_vms, 1);
        world.manager.reset();
        EXPECT_EQ(world.open_operations(), 0u);
    }
    EXPECT_FALSE(crashed);
}

struct PowerVerb {
    const char* task_state;
    int power_before;
    const char* vm_state_before;
    const char* vm_state_after;
    int power_after;
    std::function<Result<void>(World&)> cast;
};

TEST(CrashRecovery, PowerVerbsAreFinished) {
    const PowerVerb verbs[] = {
        {task_states::kPoweringOff, power_states::kRunning, vm_states::kActive, vm_states::kStopped,
         power_states::kShutdown,
         [](World& world) { return world.manager->stop_instance(world.context, kUuid, true); }},
        {task_states::kPoweringOn, power_states::kShutdown, vm_states::kStopped, vm_states::kActive,
         power_states::kRunning,
         [](World& world) { return world.manager->start_instance(world.context, kUuid); }},
        {task_states::kPausing, power_states::kRunning, vm_states::kActive, vm_states::kPaused,
         power_states::kPaused,
         [](World& world) { return world.manager->pause_instance(world.context, kUuid); }},
        {task_states::kUnpausing, power_states::kPaused, vm_states::kPaused, vm_states::kActive,
         power_states::kRunning,
         [](World& world) { return world.manager->unpause_instance(world.context, kUuid); }},
        {task_states::kRebootingHard, power_states::kRunning, vm_states::kActive,
         vm_states::kActive, power_states::kRunning,
         [](World& world) {
             return world.manager->reboot_instance(world.context, kUuid, RebootType::Hard);
         }},
    };
    for (const PowerVerb& verb : verbs) {
        bool crashed = true;
        for (int border = 1; crashed && border < kBordersMax; ++border) {
            World world;
            world.start_node();
            world.build();
            Instance instance = world.conductor.get(kUuid);
            instance.vm_state = verb.vm_state_before;
            instance.power_state = verb.power_before;
            instance.task_state = verb.task_state;
            world.conductor.add(instance);
            world.driver.set_guest(kUuid, verb.power_before);
            crashed = world.crashes(border, [&] { (void)verb.cast(world); });
            world.start_node();
            SCOPED_TRACE(fmt::format("{}, crash at border {}", verb.task_state, border));
            EXPECT_EQ(world.conductor.get(kUuid).vm_state, verb.vm_state_after);
            EXPECT_FALSE(world.conductor.get(kUuid).task_state);
            EXPECT_EQ(world.driver.power(kUuid), verb.power_after);
            EXPECT_TRUE(world.conductor.open_events().empty());
            world.manager.reset();
            EXPECT_EQ(world.open_operations(), 0u);
        }
        EXPECT_FALSE(crashed);
    }
}

TEST(CrashRecovery, TasksThatWereAcceptedButNotBegunAreTakenUp) {
    World world;
    world.start_node();
    world.build();
    world.set_task(task_states::kPoweringOff);
    world.start_node();
    EXPECT_EQ(world.conductor.get(kUuid).vm_state, vm_states::kStopped);
}

TEST(CrashRecovery, GuestsThatNoRecordKnowsAreRemovedUnlessAllRecordsAreGone) {
    World world;
    world.start_node();
    world.driver.set_guest(kOther, power_states::kRunning);
    world.start_node();
    EXPECT_EQ(world.driver.guest_count(), 1u);  // no record at all: more likely lost than emptied
    world.build();
    world.start_node();
    EXPECT_EQ(world.driver.guest_count(), 1u);
    EXPECT_EQ(world.driver.power(kUuid), power_states::kRunning);
}

TEST(CrashRecovery, GuestsRunThroughARestartOfTheNode) {
    World world;
    world.start_node();
    world.build();
    const size_t spawns = world.log.count("driver.spawn");
    world.start_node();
    EXPECT_EQ(world.conductor.get(kUuid).vm_state, vm_states::kActive);
    EXPECT_EQ(world.log.count("driver.spawn"), spawns);
    EXPECT_EQ(world.log.count("driver.power_on"), 0u);
    EXPECT_EQ(world.manager->compute_node().vcpus_used, 1);
}

TEST(CrashRecovery, GuestsAreStartedAgainAfterTheHostWasRebooted) {
    World world;
    world.start_node();
    world.build();
    ASSERT_TRUE(write_file_atomic(world.directory.path() + "/boot_id", "another boot\n").ok());
    world.driver.set_guest(kUuid, power_states::kShutdown);
    world.start_node();
    EXPECT_EQ(world.driver.power(kUuid), power_states::kRunning);
    EXPECT_EQ(world.conductor.get(kUuid).vm_state, vm_states::kActive);
}

TEST(CrashRecovery, AGuestThatWentDownWhileTheNodeWasAwayIsStopped) {
    World world;
    world.start_node();
    world.build();
    world.driver.set_guest(kUuid, power_states::kShutdown);
    world.start_node();
    EXPECT_EQ(world.conductor.get(kUuid).vm_state, vm_states::kStopped);
}

}  // namespace
}  // namespace kumoi::compute
