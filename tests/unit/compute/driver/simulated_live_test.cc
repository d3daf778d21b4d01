// Live migration between two simulated hosts, in virtual time.
#include <gtest/gtest.h>

#include "compute/driver/simulated_driver.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

class Watcher final : public LiveMigrationObserver {
public:
    void progress(const LiveMigrationProgress& progress) override {
        seen.push_back(progress);
        if (on_progress) {
            on_progress();
        }
    }
    void switched_over() override { ++switches; }
    std::vector<LiveMigrationProgress> seen;
    std::function<void()> on_progress;
    int switches = 0;
};

class SimulatedLive : public testing::Test {
protected:
    SimulatedLive() {
        server.uuid = "11111111-2222-4333-8444-555555555555";
        server.vm_state = vm_states::kActive;
        server.flavor.memory_mb = 1024;
        server.flavor.root_gb = 1;
    }
    void start() {
        const auto sleep = [this](int64_t nanoseconds) { clock.advance(nanoseconds); };
        source = std::make_unique<SimulatedDriver>(options, clock, random, sleep);
        destination = std::make_unique<SimulatedDriver>(options, clock, random, sleep);
        ASSERT_TRUE(source->spawn({{}, server, {}}).ok());
    }
    LiveMigrationOutcome migrate(LiveMigrationOptions wanted = {}) {
        const std::string facts = *destination->live_migration_facts(server);
        const auto plan =
            source->check_live_migration(server, {facts, std::nullopt, false, false, {}});
        EXPECT_TRUE(plan.ok()) << plan.error().text();
        LiveMigrationArrival arrival;
        arrival.instance = server;
        arrival.plan = *plan;
        const auto door = destination->pre_live_migration(arrival);
        EXPECT_TRUE(door.ok());
        return source->live_migration(server, {"m", *door, *plan, wanted}, watcher);
    }
    void expect_stays() {
        EXPECT_EQ(*source->live_migration_outcome(server), GuestOwner::Here);
        EXPECT_EQ(*destination->live_migration_outcome(server), GuestOwner::Incoming);
        EXPECT_TRUE(destination->rollback_live_migration(server, true).ok());
        EXPECT_EQ(*destination->live_migration_outcome(server), GuestOwner::Absent);
        EXPECT_EQ(watcher.switches, 0);
    }

    ManualClock clock{1'700'000'000 * kNanosPerSecond};
    SeededRandom random{1, "simulated live"};
    SimulatedOptions options;
    Instance server;
    Watcher watcher;
    std::unique_ptr<SimulatedDriver> source, destination;
};

TEST_F(SimulatedLive, AGuestMoves) {
    options.migration_bandwidth_mib_s = 256;
    start();
    const int64_t began = clock.monotonic_ns();
    const auto outcome = migrate();
    ASSERT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Completed);
    // 1 GiB of memory and 1 of disk, and the downtime is part of it.
    EXPECT_NEAR(static_cast<double>(clock.monotonic_ns() - began) / kNanosPerSecond, 8, 0.2);
    EXPECT_EQ(watcher.switches, 1);
    EXPECT_EQ(watcher.seen.back().memory_remaining, 0);
    EXPECT_EQ(watcher.seen.back().memory_total, int64_t{1} << 30);
    EXPECT_EQ(watcher.seen.back().disk_processed, int64_t{1} << 30);
    EXPECT_LE(watcher.seen.back().downtime_ms, 500);
    EXPECT_EQ(*source->live_migration_outcome(server), GuestOwner::Gone);
    EXPECT_EQ(*destination->list_arrival_uuids(), std::vector<std::string>{server.uuid});
    ASSERT_TRUE(destination->finish_live_migration(server).ok());
    ASSERT_TRUE(source->leave(server, false).ok());
    EXPECT_EQ(*source->live_migration_outcome(server), GuestOwner::Absent);
    EXPECT_EQ(destination->get_info(server)->power_state, power_states::kRunning);
    EXPECT_EQ(destination->rollback_live_migration(server, true).error().code, ErrorCode::Conflict);
}

TEST_F(SimulatedLive, WhatDoesNotConvergeIsToldAndTimesOut) {
    options.migration_bandwidth_mib_s = 100;
    options.dirty_rate_mib_s = 150;
    start();
    LiveMigrationOptions wanted;
    wanted.completion_timeout_s = 60;
    const auto outcome = migrate(wanted);
    EXPECT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Stayed);
    EXPECT_TRUE(outcome.cancelled);
    EXPECT_EQ(outcome.error->code, ErrorCode::Timeout);
    EXPECT_EQ(watcher.seen.back().remaining_ms, -1);
    EXPECT_NE(watcher.seen.back().verdict.find("150 MiB/s"), std::string::npos);
    expect_stays();
}

TEST_F(SimulatedLive, ATimeoutMayForceIt) {
    options.migration_bandwidth_mib_s = 100;
    options.dirty_rate_mib_s = 150;
    start();
    LiveMigrationOptions wanted;
    wanted.completion_timeout_s = 60;
    wanted.timeout_action = LiveMigrationOptions::TimeoutAction::ForceComplete;
    EXPECT_EQ(migrate(wanted).kind, LiveMigrationOutcome::Kind::Completed);
    EXPECT_GT(watcher.seen.back().downtime_ms, 5000);
}

TEST_F(SimulatedLive, AGuestMayBeSlowedDown) {
    options.migration_bandwidth_mib_s = 100;
    options.dirty_rate_mib_s = 150;
    start();
    LiveMigrationOptions wanted;
    wanted.auto_converge = true;
    EXPECT_EQ(migrate(wanted).kind, LiveMigrationOutcome::Kind::Completed);
    EXPECT_GE(watcher.seen.back().throttle_percent, 40);
    EXPECT_LE(watcher.seen.back().downtime_ms, 500);
}

TEST_F(SimulatedLive, ItIsAbortedAndForced) {
    options.migration_bandwidth_mib_s = 1;
    start();
    EXPECT_EQ(source->abort_live_migration(server).error().fault, "InvalidMigrationState");
    EXPECT_EQ(source->force_complete_live_migration(server).error().fault, "InvalidMigrationState");
    watcher.on_progress = [this] { EXPECT_TRUE(source->abort_live_migration(server).ok()); };
    const auto aborted = migrate();
    EXPECT_EQ(aborted.kind, LiveMigrationOutcome::Kind::Stayed);
    EXPECT_TRUE(aborted.cancelled);
    expect_stays();
    watcher.on_progress = [this] { (void)source->force_complete_live_migration(server); };
    EXPECT_EQ(migrate().kind, LiveMigrationOutcome::Kind::Completed);
}

TEST_F(SimulatedLive, FailuresCanBeAskedFor) {
    options.migration_failure_rate = 1;
    start();
    const auto outcome = migrate();
    EXPECT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Stayed);
    EXPECT_FALSE(outcome.cancelled);
    expect_stays();
}

TEST_F(SimulatedLive, ARefusalListsEveryReason) {
    start();
    Instance other = server;
    other.uuid = "22222222-2222-4333-8444-555555555555";
    const auto plan = source->check_live_migration(other, {"{}", std::nullopt, false, false, {}});
    ASSERT_FALSE(plan.ok());
    EXPECT_EQ(plan.error().fault, "MigrationPreCheckError");
    EXPECT_NE(plan.error().message.find("does not simulate"), std::string::npos);
    EXPECT_NE(plan.error().message.find("does not run"), std::string::npos);
    const std::string facts = *destination->live_migration_facts(server);
    EXPECT_EQ(source->check_live_migration(server, {facts, false, false, false, {}}).error().fault,
              "InvalidSharedStorage");
    options.shared_storage = true;
    start();
    EXPECT_EQ(source->check_live_migration(server, {facts, true, false, false, {}}).error().fault,
              "InvalidLocalStorage");
}

TEST_F(SimulatedLive, APausedGuestArrivesPaused) {
    start();
    ASSERT_TRUE(source->pause(server).ok());
    server.vm_state = vm_states::kPaused;
    ASSERT_EQ(migrate().kind, LiveMigrationOutcome::Kind::Completed);
    ASSERT_TRUE(destination->finish_live_migration(server).ok());
    EXPECT_EQ(destination->get_info(server)->power_state, power_states::kPaused);
}

}  // namespace
}  // namespace kumoi::compute
