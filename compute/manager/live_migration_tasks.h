// The steps of a live migration, as Nova's chain: each runs on the host that its comment names.
// What Nova decides by the success or failure of a call the driver decides here, by whose the guest
// is (live_migration.h): nobody rolls back or finishes what is not decided.
//
//     source                                destination
//     check_live_source_task()        <---  check_live_destination_task()
//     LiveMigrationTask: prepare      --->  PreLiveMigrationTask
//                        (the guest moves)
//                        post         --->  post_live_migration_task()
//                        or rollback  --->  rollback_live_migration_task()
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "compute/block_device.h"
#include "compute/manager/live_migrate_data.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

Result<LiveMigrateData> check_live_destination_task(NodeServices& services,
                                                    const Operation& operation,
                                                    const LiveMigrationCheck& request);
Result<LiveMigrateData> check_live_source_task(NodeServices& services, const Operation& operation,
                                               LiveMigrateData data);

class PreLiveMigrationTask {  // destination
public:
    PreLiveMigrationTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    Result<LiveMigrateData> execute(const std::string& disks, LiveMigrateData data);
    // Nobody waits for an answer any more: the source takes its records back itself.
    Result<void> undo_after_restart(bool shared);

private:
    Result<void> run_steps(const std::string& disks);
    Result<void> attach_volumes();
    Result<void> complete_attachments();
    void rollback();
    void give_volumes_back();

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
    LiveMigrateData data_;
    std::vector<BlockDevice> before_;  // volumes as the source has them
    std::vector<BlockDevice> here_;
    std::vector<VolumeDisk> disks_;
};

class LiveMigrationTask {  // source
public:
    LiveMigrationTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    Result<void> execute(const LiveMigrationRequest& request);
    // After a restart, or when it was not decided: goes on as the driver says whose the guest is.
    Result<void> settle(const std::vector<std::string>& steps);
    // One that waited for its turn.
    Result<void> cancel();

private:
    class Observer;
    Result<void> load(const std::string& destination);
    Result<void> prepare();
    Result<void> move();
    Result<void> end(const LiveMigrationOutcome& outcome, bool switched_over);
    Result<void> wait_undecided(const Error& reason);
    void recall(const std::vector<std::string>& steps);
    Result<void> follow();

    // live_migration_ends.cc
    Result<void> post();
    void leave_volumes();
    void leave_host();
    Result<void> tell_destination();
    void rollback(const Error& reason, bool cancelled);
    void rollback_volumes();
    void rollback_networks();
    Result<void> rollback_record(bool cancelled);

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
    Migration migration_;
    std::string destination_;  // host; empty: it was not chosen yet
    LiveMigrateData data_;
    std::vector<BlockDevice> volumes_;                       // as they were before
    std::map<std::string, std::string> old_attachment_ids_;  // of them; after a restart all we have
    bool switched_over_ = false;
    bool told_destination_ = false;  // it may have something of the server
};

// Destination. Repeating is fine, also when nobody asked: the driver says that the guest is here.
Result<void> post_live_migration_task(NodeServices& services, const Operation& operation);
Result<void> rollback_live_migration_task(NodeServices& services, const Operation& operation,
                                          bool destroy_disks, const LiveMigrateData& data);

// Deletes a server where its guest is: here, or by the host it has left for. `may_have_left`: since
// this was asked. Conflict while nobody can tell.
Result<void> terminate_where_it_is(NodeServices& services, const Operation& operation,
                                   bool may_have_left);

}  // namespace kumoi::compute
