// Live migration, cold migration and evacuation as the control plane sees them: who is chosen, what
// is claimed, and that a refusal leaves everything as it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compute/conductor/conductor.h"
#include "compute/vm_states.h"
#include "tests/support/conductor_fakes.h"
#include "tests/support/host_moves_fake.h"

namespace kumoi::compute {
namespace {

using conductor_fakes::ComputeApiFake;
using conductor_fakes::HostMovesFake;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kImage[] = "340aee23-0f31-4bb7-a985-456e4da837c6";

class MoveVerbs : public testing::Test {
protected:
    MoveVerbs() {
        images_.add(kImage);
        database_ = Database::open(":memory:").value();
        conductor_ =
            Conductor::create({}, {*database_, clock_, random_, images_, networks_}).value();
        for (ComputeApiFake* node : {&cn1_, &cn2_, &cn3_}) {
            node->conductor = conductor_.get();
        }
        Flavor flavor;
        flavor.flavor_id = "1";
        flavor.name = "m1.tiny";
        flavor.vcpus = 1;
        flavor.memory_mb = 512;
        flavor.root_gb = 1;
        EXPECT_TRUE(conductor_->flavors().create(flavor).ok());
        flavor.flavor_id = "2";
        flavor.name = "m1.big";
        flavor.memory_mb = 1024;
        EXPECT_TRUE(conductor_->flavors().create(flavor).ok());
        add_node(cn1_, "cn-1", 1);
    }

    void add_node(ComputeApiFake& fake, const std::string& host, int number) {
        conductor_->register_host(host, fake);
        EXPECT_TRUE(conductor_->service_heartbeat(host).ok());
        ComputeNode node = fake.node(4, 4096, 50);
        node.uuid = fmt::format("0b9a1f9e-6c1f-4c58-8d6a-{:012}", number);
        node.host_ip = fmt::format("10.0.0.{}", number);
        EXPECT_TRUE(conductor_->compute_node_update(node).ok());
    }
    void add_others() {
        add_node(cn2_, "cn-2", 2);
        add_node(cn3_, "cn-3", 3);
        conductor_->set_moves(moves_, {});
    }

    std::string create() {
        CreateServers request;
        request.context = alice_;
        request.name = "web";
        request.image_id = kImage;
        request.flavor_id = "1";
        request.requested_host = "cn-1";
        return conductor_->create_servers(request).value().servers.front().uuid;
    }
    Instance get(const std::string& uuid) { return conductor_->instance_get(uuid).value(); }
    MigrationRecord newest(const std::string& uuid) {
        return conductor_->migrations().list({.instance_uuid = uuid}).value().at(0);
    }
    int64_t claimed_mb(const std::string& host) {
        for (const auto& state : conductor_->placement().host_states()) {
            if (state.host == host) {
                return state.memory_mb.claimed;
            }
        }
        return -1;
    }
    LiveMigrateServer live(const std::string& uuid) {
        LiveMigrateServer request;
        request.context = admin_;
        request.uuid = uuid;
        request.waits = true;
        return request;
    }
    void set_status(const std::string& uuid, const std::string& status) {
        MigrationRecord migration = newest(uuid);
        migration.status = status;
        EXPECT_TRUE(conductor_->migrations().update(migration).ok());
    }

    ManualClock clock_;
    SeededRandom random_{1};
    conductor_fakes::ImageApiFake images_;
    conductor_fakes::NetworkApiFake networks_;
    std::unique_ptr<Database> database_;
    std::unique_ptr<Conductor> conductor_;
    ComputeApiFake cn1_{"cn-1"}, cn2_{"cn-2"}, cn3_{"cn-3"};
    HostMovesFake moves_;
    const RequestContext alice_{"req-1", "alice", "p1", false};
    const RequestContext admin_{"req-2", "root", "p0", true};
};

TEST_F(MoveVerbs, OneNodeAloneHasNoOtherHost) {
    const std::string uuid = create();
    const auto waited = conductor_->live_migrate_server(live(uuid));
    ASSERT_FALSE(waited.ok());
    EXPECT_EQ(waited.error().fault, "NoValidHost");
    EXPECT_EQ(waited.error().code, ErrorCode::InvalidArgument);
    EXPECT_EQ(get(uuid).task_state, std::nullopt);
    EXPECT_EQ(newest(uuid).status, "error");
    auto request = live(uuid);
    request.waits = false;  // accepted; what came of it is in the records
    EXPECT_TRUE(conductor_->live_migrate_server(request).ok());
    EXPECT_EQ(get(uuid).task_state, std::nullopt);
    EXPECT_THAT(get(uuid).fault->message, HasSubstr("No valid host was found"));
    const auto actions = conductor_->actions().list(uuid, {}).value();
    EXPECT_EQ(actions.at(0).action, "live-migration");
    EXPECT_EQ(actions.at(0).message, "Error");
}

TEST_F(MoveVerbs, ALiveMigrationClaimsItsDestinationUntilItEnds) {
    add_others();
    const std::string uuid = create();
    auto request = live(uuid);
    request.host = "cn-3";
    const auto started = conductor_->live_migrate_server(request);
    ASSERT_TRUE(started.ok()) << started.error().text();
    EXPECT_THAT(moves_.calls, ElementsAre("check cn-3 auto", "live cn-1 to cn-3"));
    EXPECT_EQ(get(uuid).task_state, "migrating");
    const MigrationRecord migration = newest(uuid);
    EXPECT_EQ(migration.status, "accepted");
    EXPECT_EQ(migration.migration_type, "live-migration");
    EXPECT_EQ(migration.source_compute, "cn-1");
    EXPECT_EQ(migration.dest_compute, "cn-3");
    EXPECT_EQ(migration.dest_host, "10.0.0.3");
    EXPECT_EQ(claimed_mb("cn-1"), 512);
    EXPECT_EQ(claimed_mb("cn-3"), 512);
    // The destination has it: each host holds what is on it.
    InstanceUpdate arrived;
    arrived.host = arrived.node = "cn-3";
    arrived.task_state = std::optional<std::string>();
    EXPECT_TRUE(conductor_->instance_save(uuid, arrived).ok());
    EXPECT_EQ(claimed_mb("cn-1"), 0);
    EXPECT_EQ(claimed_mb("cn-3"), 512);
    set_status(uuid, "completed");
    EXPECT_EQ(claimed_mb("cn-3"), 512);
}

TEST_F(MoveVerbs, WhatOneHostRefusesAnotherMayAccept) {
    add_others();
    const std::string uuid = create();
    moves_.refusals.emplace("cn-2",
                            Error::invalid("its CPU lacks avx512").with_fault("InvalidCPUInfo"));
    moves_.refusals.emplace("cn-3",
                            Error::invalid("its CPU lacks avx2").with_fault("InvalidCPUInfo"));
    const auto nowhere = conductor_->live_migrate_server(live(uuid));
    ASSERT_FALSE(nowhere.ok());
    EXPECT_EQ(nowhere.error().fault, "NoValidHost");
    EXPECT_THAT(nowhere.error().message, HasSubstr("cn-2: its CPU lacks avx512"));
    EXPECT_THAT(nowhere.error().message, HasSubstr("cn-3: its CPU lacks avx2"));
    EXPECT_EQ(claimed_mb("cn-2") + claimed_mb("cn-3"), 0);
    moves_.refusals.erase("cn-3");
    moves_.calls.clear();
    EXPECT_TRUE(conductor_->live_migrate_server(live(uuid)).ok());
    EXPECT_EQ(moves_.calls.back(), "live cn-1 to cn-3");
    EXPECT_EQ(claimed_mb("cn-2"), 0);
}

TEST_F(MoveVerbs, ANamedHostIsTheOnlyOneAsked) {
    add_others();
    const std::string uuid = create();
    moves_.refusals.emplace("cn-2", Error::invalid("no").with_fault("MigrationPreCheckError"));
    auto request = live(uuid);
    request.block_migration = true;
    request.host = "cn-2";
    EXPECT_EQ(conductor_->live_migrate_server(request).error().fault, "MigrationPreCheckError");
    EXPECT_THAT(moves_.calls, ElementsAre("check cn-2 block"));
    request.host = "cn-1";
    EXPECT_EQ(conductor_->live_migrate_server(request).error().fault, "UnableToMigrateToSelf");
    request.host = "mars";
    EXPECT_EQ(conductor_->live_migrate_server(request).error().fault, "ComputeHostNotFound");
    EXPECT_EQ(get(uuid).task_state, std::nullopt);
}

TEST_F(MoveVerbs, ACastThatIsLostTakesEverythingBack) {
    add_others();
    const std::string uuid = create();
    moves_.cast_failure = Error::unavailable("no broker").with_fault("MessageUndeliverable");
    EXPECT_FALSE(conductor_->live_migrate_server(live(uuid)).ok());
    EXPECT_EQ(get(uuid).task_state, std::nullopt);
    EXPECT_EQ(newest(uuid).status, "error");
    EXPECT_EQ(claimed_mb("cn-2") + claimed_mb("cn-3"), 0);
}

TEST_F(MoveVerbs, AbortAndForceAskForTheRightState) {
    add_others();
    const std::string uuid = create();
    EXPECT_EQ(conductor_->abort_live_migration(admin_, uuid, 1, true).error().fault,
              "InstanceInvalidState");
    ASSERT_TRUE(conductor_->live_migrate_server(live(uuid)).ok());
    const int64_t id = newest(uuid).id;
    EXPECT_EQ(conductor_->abort_live_migration(admin_, uuid, id + 1, true).error().fault,
              "MigrationNotFoundForInstance");
    EXPECT_EQ(conductor_->abort_live_migration(admin_, uuid, id, true).error().fault,
              "InvalidMigrationState");  // accepted: nobody to tell yet
    set_status(uuid, "queued");
    EXPECT_EQ(conductor_->abort_live_migration(admin_, uuid, id, false).error().fault,
              "InvalidMigrationState");
    EXPECT_TRUE(conductor_->abort_live_migration(admin_, uuid, id, true).ok());
    EXPECT_EQ(conductor_->force_live_migration(admin_, uuid, id).error().fault,
              "InvalidMigrationState");
    set_status(uuid, "running");
    EXPECT_TRUE(conductor_->force_live_migration(admin_, uuid, id).ok());
    EXPECT_EQ(moves_.calls.back(), "force cn-1");
    EXPECT_EQ(conductor_->actions().list(uuid, {}).value().at(0).action,
              "live_migration_force_complete");
}

TEST_F(MoveVerbs, AResizeHoldsBothSizesAtTheirEnds) {
    add_others();
    const std::string uuid = create();
    ASSERT_TRUE(conductor_->resize_server(alice_, uuid, "2", std::nullopt).ok());
    const MigrationRecord migration = newest(uuid);
    EXPECT_EQ(moves_.calls.back(), "prep " + migration.dest_compute + " m1.big");
    // What the destination records at each step.
    InstanceUpdate prepared;
    prepared.new_flavor = conductor_->flavors().get("2").value();
    EXPECT_TRUE(conductor_->instance_save(uuid, prepared).ok());
    if (migration.dest_compute != "cn-1") {
        EXPECT_EQ(claimed_mb("cn-1"), 512);
        EXPECT_EQ(claimed_mb(migration.dest_compute), 1024);
    }
    InstanceUpdate finished;
    finished.old_flavor = get(uuid).flavor;
    finished.flavor = conductor_->flavors().get("2").value();
    finished.host = finished.node = migration.dest_compute;
    finished.vm_state = vm_states::kResized;
    finished.task_state = std::optional<std::string>();
    EXPECT_TRUE(conductor_->instance_save(uuid, finished).ok());
    set_status(uuid, "finished");
    if (migration.dest_compute != "cn-1") {
        EXPECT_EQ(claimed_mb("cn-1"), 512);
        EXPECT_EQ(claimed_mb(migration.dest_compute), 1024);
    }
    ASSERT_TRUE(conductor_->confirm_resize(alice_, uuid).ok());
    EXPECT_EQ(moves_.calls.back(), "confirm cn-1");
    EXPECT_EQ(newest(uuid).status, "confirming");
}

TEST_F(MoveVerbs, AColdMigrationLeavesItsHost) {
    add_others();
    const std::string uuid = create();
    ASSERT_TRUE(conductor_->migrate_server(admin_, uuid, "cn-3").ok());
    EXPECT_THAT(moves_.calls, ElementsAre("prep cn-3 m1.tiny"));
    EXPECT_EQ(get(uuid).task_state, task_states::kResizePrep);
    const std::string other = create();
    moves_.cast_failure = Error::unavailable("no broker");
    EXPECT_FALSE(conductor_->migrate_server(admin_, other, std::nullopt).ok());
    EXPECT_EQ(get(other).task_state, std::nullopt);
    EXPECT_EQ(newest(other).status, "error");
}

TEST_F(MoveVerbs, OnlyADeadHostIsEvacuated) {
    add_others();
    const std::string uuid = create();
    EvacuateServer request;
    request.context = admin_;
    request.uuid = uuid;
    EXPECT_EQ(conductor_->evacuate_server(request).error().fault, "ComputeServiceInUse");
    clock_.advance(61 * kNanosPerSecond);
    for (const char* alive : {"cn-2", "cn-3"}) {
        EXPECT_TRUE(conductor_->service_heartbeat(alive).ok());
    }
    request.leave_stopped = true;
    ASSERT_TRUE(conductor_->evacuate_server(request).ok());
    EXPECT_EQ(moves_.calls.back(), "evacuate " + newest(uuid).dest_compute + " stopped");
    EXPECT_EQ(newest(uuid).migration_type, "evacuation");
    EXPECT_EQ(get(uuid).task_state, task_states::kRebuilding);
}

}  // namespace
}  // namespace kumoi::compute
