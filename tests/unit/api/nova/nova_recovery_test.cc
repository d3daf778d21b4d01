// What a node makes of each state in which it finds a server of its host at its start, when the
// request itself is lost: Nova's rules.
#include <algorithm>

#include "tests/support/nova_world.h"

namespace kumoi::nova {
namespace {

using test::NovaWorld;
namespace power_states = compute::power_states;

constexpr const char* kUuid = NovaWorld::kUuid;

class NovaRecovery : public testing::Test {
protected:
    NovaRecovery() {
        world.start_node();
        world.order();
        EXPECT_TRUE(world.build().ok());
        EXPECT_EQ(world.vm_state(), "active");
        world.database.faults.clear();
    }
    // The daemon went down and comes back to this record and this guest.
    void restart(const char* vm_state, const char* task, int power) {
        world.database.set(kUuid, "vm_state", vm_state);
        world.database.set(kUuid, "task_state", task == nullptr ? Json() : Json(task));
        world.driver.set_guest(kUuid, power);
        world.start_node();
    }
    void expect(const char* vm_state, int power) {
        EXPECT_EQ(world.vm_state(), vm_state);
        EXPECT_EQ(world.task_state(), "");
        EXPECT_EQ(world.driver.power(kUuid), power);
    }
    NovaWorld world;
};

TEST_F(NovaRecovery, ABuildThatWasCutShortEndsInErrorAndLeavesNothing) {
    for (const char* task : {"networking", "block_device_mapping", "spawning"}) {
        NovaWorld here;
        here.start_node();
        here.order();
        ASSERT_TRUE(here.build().ok());
        here.database.set(kUuid, "vm_state", "building");
        here.set_task(task);
        here.start_node();
        EXPECT_EQ(here.vm_state(), "error") << task;
        EXPECT_EQ(here.task_state(), "");
        EXPECT_EQ(here.database.text(kUuid, "host"), "");
        EXPECT_EQ(here.database.faults[kUuid], 1);
        EXPECT_EQ(here.driver.guest_count(), 0u);
        EXPECT_EQ(here.network.port_count(), 0u);
        EXPECT_TRUE(here.vifs.taps().empty());
        EXPECT_TRUE(here.database.allocations.empty());
        EXPECT_EQ(here.manager->compute_node().vcpus_used, 0);
    }
}

TEST_F(NovaRecovery, ABuildThatNeverReachedTheHostEndsInErrorAMinuteLater) {
    NovaWorld here;
    here.order();
    here.clock.advance(10 * kNanosPerSecond);
    here.start_node();
    EXPECT_EQ(here.vm_state(), "building");  // its request may still wait in the broker
    here.let_time_pass();
    EXPECT_EQ(here.vm_state(), "error");
    EXPECT_EQ(here.task_state(), "");
    EXPECT_EQ(here.database.faults[kUuid], 1);
    EXPECT_TRUE(here.database.allocations.empty());
}

TEST_F(NovaRecovery, ABuildThatWaitedInTheBrokerIsBuilt) {
    NovaWorld here;
    here.order();
    here.clock.advance(10 * kNanosPerSecond);
    here.start_node();
    ASSERT_TRUE(here.build().ok());
    here.let_time_pass();
    EXPECT_EQ(here.vm_state(), "active");
    EXPECT_EQ(here.database.allocations.size(), 1u);
}

TEST_F(NovaRecovery, ANewerBuildIsNoLostOne) {
    world.clock.advance(10 * kNanosPerSecond);
    Json other = *NovaWorld::build_arguments().find("instance");
    const std::string uuid = "00000009-0000-4000-8000-000000000009";
    other["nova_object.data"].set("uuid", uuid);
    other["nova_object.data"].set("created_at", iso8601(world.clock.wall_ns()));
    world.database.add(other);
    world.database.allocations.insert(uuid);
    world.let_time_pass();
    EXPECT_EQ(world.database.text(uuid, "vm_state"), "building");
}

TEST_F(NovaRecovery, AnImageThatWasBeingMadeIsGivenUp) {
    for (const char* task : {"image_snapshot_pending", "image_snapshot", "image_pending_upload",
                             "image_uploading", "image_backup"}) {
        world.queue_image();
        restart("active", task, power_states::kRunning);
        expect("active", power_states::kRunning);
        EXPECT_EQ(world.images.count(), 1u) << task;
    }
}

TEST_F(NovaRecovery, ARebuildThatWasCutShortEndsInError) {
    for (const char* task : {"rebuilding", "rebuild_block_device_mapping", "rebuild_spawning"}) {
        world.database.faults.clear();
        restart("active", task, power_states::kShutdown);
        expect("error", power_states::kShutdown);
        EXPECT_EQ(world.database.faults[kUuid], 1) << task;
    }
    world.set_task("rebuilding");
    Json args = NovaWorld::arguments_of("compute.rebuild_instance");
    args.set("instance", world.database.primitive(kUuid));
    ASSERT_TRUE(world.request("rebuild_instance", std::move(args), "6.1").ok());
    expect("active", power_states::kRunning);
}

TEST_F(NovaRecovery, PowerTasksAreDoneAgain) {
    restart("active", "powering-off", power_states::kRunning);
    expect("stopped", power_states::kShutdown);
    restart("stopped", "powering-on", power_states::kShutdown);
    expect("active", power_states::kRunning);
    restart("active", "pausing", power_states::kRunning);
    expect("paused", power_states::kPaused);
    restart("paused", "unpausing", power_states::kPaused);
    expect("active", power_states::kRunning);
    for (const char* task : {"rebooting", "reboot_pending", "reboot_started", "rebooting_hard",
                             "reboot_pending_hard", "reboot_started_hard"}) {
        restart("active", task, power_states::kRunning);
        expect("active", power_states::kRunning);
    }
}

TEST_F(NovaRecovery, ADeleteIsDoneAgain) {
    restart("active", "deleting", power_states::kRunning);
    EXPECT_TRUE(world.database.is_deleted(kUuid));
    EXPECT_EQ(world.driver.guest_count(), 0u);
    EXPECT_EQ(world.network.port_count(), 0u);
    EXPECT_TRUE(world.database.allocations.empty());
}

TEST_F(NovaRecovery, AResizeThatHadNotTouchedTheGuestIsForgotten) {
    restart("active", "resize_prep", power_states::kRunning);
    expect("active", power_states::kRunning);
    restart("active", "migrating", power_states::kRunning);
    expect("active", power_states::kRunning);
}

TEST_F(NovaRecovery, AGuestWhoseDisksWerePutAsideRunsAgain) {
    restart("active", "resize_migrating", power_states::kShutdown);
    expect("active", power_states::kRunning);
}

TEST_F(NovaRecovery, AShelveWithoutItsImageIsGivenUp) {
    world.queue_image();
    restart("active", "shelving_image_uploading", power_states::kShutdown);
    expect("active", power_states::kRunning);
    EXPECT_EQ(world.images.count(), 1u);
}

TEST_F(NovaRecovery, AServerThatRanIsStartedWhenTheHostWasBootedAnew) {
    ASSERT_TRUE(write_file_atomic(world.directory.path() + "/boot_id", "another boot\n").ok());
    restart("active", nullptr, power_states::kShutdown);
    expect("active", power_states::kRunning);
}

TEST_F(NovaRecovery, AServerWhoseGuestIsDownIsStopped) {
    restart("active", nullptr, power_states::kShutdown);
    expect("stopped", power_states::kShutdown);
}

TEST_F(NovaRecovery, AServerWhosePortsCannotBePluggedIsInError) {
    world.log.fail = [](const std::string& call) -> Result<void> {
        return call == "vifs.plug" ? Result<void>(Error::unavailable("no bridge")) : Result<void>();
    };
    restart("active", nullptr, power_states::kRunning);
    EXPECT_EQ(world.vm_state(), "error");
    EXPECT_EQ(world.database.faults[kUuid], 1);
    EXPECT_EQ(world.driver.power(kUuid), power_states::kRunning);
}

TEST_F(NovaRecovery, AServerThatWasDeletedMeanwhileLeavesNothing) {
    Json other = *NovaWorld::build_arguments().find("instance");
    other["nova_object.data"].set("uuid", "00000009-0000-4000-8000-000000000009");
    other["nova_object.data"].set("host", NovaWorld::kHost);
    other["nova_object.data"].set("vm_state", "stopped");
    other["nova_object.data"].set("task_state", nullptr);
    world.database.add(other);  // so that the records are not lost altogether
    world.database.set(kUuid, "deleted", true);
    world.database.set(kUuid, "deleted_at", iso8601(world.clock.wall_ns()));
    world.start_node();
    EXPECT_EQ(world.driver.power(kUuid), 0);
}

class NovaPeriodic : public NovaRecovery {
protected:
    void with(const std::function<void(compute::PeriodicOptions&)>& change) {
        change(world.periodic);
        world.start_node();
    }
    void age(int64_t seconds) { world.clock.advance(seconds * kNanosPerSecond); }
};

TEST_F(NovaPeriodic, OnlyWhatIsSwitchedOnIsRun) {
    const auto names = [&] {
        std::set<std::string> all;
        for (const auto& task : world.tasks->periodic_tasks()) {
            all.insert(task.name);
        }
        return all;
    };
    EXPECT_EQ(names(), (std::set<std::string>{"heal_instance_info_cache", "run_pending_deletes",
                                              "cleanup_incomplete_migrations",
                                              "cleanup_expired_console_auth_tokens",
                                              "cleanup_running_deleted_instances"}));
    with([](compute::PeriodicOptions& options) {
        options.heal_info_cache_interval_s = -1;
        options.instance_delete_interval_s = -1;
        options.running_deleted_action = "noop";
        options.rescue_timeout_s = options.reboot_timeout_s = options.instance_build_timeout_s =
            options.reclaim_instance_interval_s = options.resize_confirm_window_s =
                options.shelved_offload_time_s = 1;
    });
    EXPECT_EQ(names(),
              (std::set<std::string>{"check_instance_build_time", "poll_rebooting_instances",
                                     "poll_rescued_instances", "poll_unconfirmed_resizes",
                                     "poll_shelved_instances", "reclaim_queued_deletes"}));
}

TEST_F(NovaPeriodic, ABuildThatTakesTooLongIsInError) {
    with([](compute::PeriodicOptions& options) { options.instance_build_timeout_s = 600; });
    world.database.set(kUuid, "vm_state", "building");
    world.set_task("spawning");
    world.database.set(kUuid, "created_at", iso8601(world.clock.wall_ns()));
    age(599);
    world.tasks->check_instance_build_time();
    EXPECT_EQ(world.vm_state(), "building");
    age(1);
    world.tasks->check_instance_build_time();
    EXPECT_EQ(world.vm_state(), "error");
    EXPECT_EQ(world.database.faults[kUuid], 1);
}

TEST_F(NovaPeriodic, ARebootThatHangsBecomesAHardOne) {
    with([](compute::PeriodicOptions& options) { options.reboot_timeout_s = 60; });
    world.set_task("reboot_started");
    age(59);
    world.tasks->poll_rebooting_instances();
    EXPECT_EQ(world.task_state(), "reboot_started");
    age(1);
    world.tasks->poll_rebooting_instances();
    expect("active", power_states::kRunning);
    EXPECT_EQ(world.log.count("driver.reboot_hard"), 1u);
}

TEST_F(NovaPeriodic, ARescueEndsByItself) {
    with([](compute::PeriodicOptions& options) { options.rescue_timeout_s = 60; });
    world.set_task("rescuing");
    ASSERT_TRUE(world.request("rescue_instance").ok());
    expect("rescued", power_states::kRunning);
    age(61);
    world.tasks->poll_rescued_instances();
    expect("active", power_states::kRunning);
}

TEST_F(NovaPeriodic, AShelvedServerLeavesItsHostInTime) {
    with([](compute::PeriodicOptions& options) { options.shelved_offload_time_s = 600; });
    const std::string image = world.queue_image();
    world.set_task("shelving");
    ASSERT_TRUE(world.request("shelve_instance", Json::object({{"image_id", image}})).ok());
    EXPECT_EQ(world.vm_state(), "shelved");
    age(599);
    world.tasks->poll_shelved_instances();
    EXPECT_EQ(world.vm_state(), "shelved");
    age(2);
    world.tasks->poll_shelved_instances();
    EXPECT_EQ(world.vm_state(), "shelved_offloaded");
    EXPECT_EQ(world.driver.guest_count(), 0u);
    EXPECT_TRUE(world.database.allocations.empty());
}

TEST_F(NovaPeriodic, ASoftDeletedServerIsDeletedInTime) {
    with([](compute::PeriodicOptions& options) { options.reclaim_instance_interval_s = 600; });
    world.database.set(kUuid, "deleted_at", iso8601(world.clock.wall_ns()));
    world.set_task("soft-deleting");
    ASSERT_TRUE(world.request("soft_delete_instance").ok());
    EXPECT_EQ(world.vm_state(), "soft-delete");
    age(599);
    world.tasks->reclaim_queued_deletes();
    EXPECT_FALSE(world.database.is_deleted(kUuid));
    age(1);
    world.tasks->reclaim_queued_deletes();
    EXPECT_TRUE(world.database.is_deleted(kUuid));
    EXPECT_EQ(world.driver.guest_count(), 0u);
}

TEST_F(NovaPeriodic, AnOldResizeIsConfirmedAtItsSource) {
    with([](compute::PeriodicOptions& options) { options.resize_confirm_window_s = 60; });
    Json migration = *NovaWorld::arguments_of("compute.confirm_resize").find("migration");
    migration["nova_object.data"].set("instance_uuid", kUuid);
    migration["nova_object.data"].set("status", "finished");
    world.database.migrations = {migration};
    world.tasks->poll_unconfirmed_resizes();
    EXPECT_EQ(world.database.casts, std::vector<std::string>());  // it is not resized
    world.database.set(kUuid, "vm_state", "resized");
    world.tasks->poll_unconfirmed_resizes();
    EXPECT_EQ(world.database.casts, std::vector<std::string>{"confirm_resize"});
    EXPECT_EQ(world.database.migrations[0].find_path({"nova_object.data", "status"})->as_string(),
              "confirming");
}

TEST_F(NovaPeriodic, GuestsOfDeletedServersAreReaped) {
    world.database.set(kUuid, "deleted", true);
    world.database.set(kUuid, "deleted_at", iso8601(world.clock.wall_ns()));
    with([](compute::PeriodicOptions& options) {
        options.running_deleted_action = "log";
        options.running_deleted_timeout_s = 60;
    });
    world.driver.set_guest(kUuid, power_states::kRunning);
    world.tasks->cleanup_running_deleted_instances();
    EXPECT_EQ(world.driver.guest_count(), 1u);
    with([](compute::PeriodicOptions& options) { options.running_deleted_action = "reap"; });
    world.driver.set_guest(kUuid, power_states::kRunning);
    world.tasks->cleanup_running_deleted_instances();
    EXPECT_EQ(world.driver.guest_count(), 1u);  // not long enough
    age(61);
    world.tasks->cleanup_running_deleted_instances();
    EXPECT_EQ(world.driver.guest_count(), 0u);
}

TEST_F(NovaPeriodic, WhatADeletedServerLeftIsRemovedAndRemembered) {
    world.database.set(kUuid, "deleted", true);
    world.database.set(kUuid, "deleted_at", iso8601(world.clock.wall_ns()));
    world.driver.set_guest(kUuid, power_states::kShutdown);
    world.tasks->run_pending_deletes();
    EXPECT_EQ(world.driver.guest_count(), 0u);
    const auto cleaned = [&] {
        return world.database.primitive(kUuid).find("nova_object.data")->bool_or("cleaned");
    };
    EXPECT_FALSE(cleaned());
    world.tasks->run_pending_deletes();
    EXPECT_TRUE(cleaned());
    const size_t calls = world.log.calls().size();
    world.tasks->run_pending_deletes();
    EXPECT_EQ(world.log.calls().size(), calls + 1);  // looked, and found nothing
}

TEST_F(NovaPeriodic, WhatAFailedMigrationLeftOfADeletedServerIsRemoved) {
    world.database.set(kUuid, "deleted", true);
    world.database.set(kUuid, "host", "elsewhere");
    Json migration = *NovaWorld::arguments_of("compute.confirm_resize").find("migration");
    migration["nova_object.data"].set("instance_uuid", kUuid);
    migration["nova_object.data"].set("status", "error");
    world.database.migrations = {migration};
    world.tasks->cleanup_incomplete_migrations();
    EXPECT_EQ(world.driver.guest_count(), 0u);
    EXPECT_EQ(world.database.migrations[0].find_path({"nova_object.data", "status"})->as_string(),
              "failed");
}

TEST_F(NovaPeriodic, NetworksAreReadAgainOneServerAtATime) {
    const size_t before = world.log.count("rpc InstanceInfoCache.save");
    world.tasks->heal_instance_info_cache();
    EXPECT_EQ(world.log.count("rpc InstanceInfoCache.save"), before + 1);
}

}  // namespace
}  // namespace kumoi::nova
