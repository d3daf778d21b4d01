// LiveMigrationRecords: what is recorded while a server moves without stopping, and what its two
// hosts ask of each other (ComputeApi's verbs of the same names, over the wire). The manager owns
// the interface; in mode = openstack api/nova implements it. The migration's status is saved by
// ConductorApi::migration_save(). Any thread; may block for round trips.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "compute/manager/conductor_api.h"
#include "compute/manager/live_migrate_data.h"
#include "compute/objects.h"

namespace kumoi::compute {

// What listeners are told of.
enum class LiveMigrationNews { Pre, Post, PostDest, Rollback, RollbackDest, Abort, ForceComplete };

// Ends of a migration's status.
inline bool is_over(std::string_view status) {
    return status == "completed" || status == "failed" || status == "cancelled" ||
           status == "error";
}

class LiveMigrationRecords {
public:
    virtual ~LiveMigrationRecords() = default;

    // The newest live migration of the server, with its status as it is recorded now. NotFound:
    // there was none.
    virtual Result<Migration> live_migration(const std::string& uuid) = 0;
    // Into the migration (bytes) and the server (percent of its memory that is there).
    virtual Result<void> save_progress(const std::string& uuid,
                                       const LiveMigrationProgress& progress) = 0;
    // instance_save(), and the server is this host's from now on.
    virtual Result<void> save_host(const std::string& uuid, const InstanceUpdate& update,
                                   const std::string& host) = 0;
    virtual Result<void> drop_context(const std::string& uuid) = 0;
    // An operator has said that this host is off ("forced down").
    virtual Result<bool> is_fenced(const std::string& host) = 0;
    // What the migration holds goes back to the server, in place of what that has ...
    virtual Result<void> return_allocations(const std::string& uuid) = 0;
    // ... or away. Absent is fine for both.
    virtual Result<void> drop_allocations(const std::string& uuid) = 0;
    // Tokens of consoles that led here.
    virtual Result<void> forget_consoles(const std::string& uuid) = 0;
    virtual void announce(const RequestContext& context, const std::string& uuid,
                          LiveMigrationNews news, bool begins) {
        (void)context, (void)uuid, (void)news, (void)begins;
    }

    // Calls and casts to `host`.
    virtual Result<LiveMigrateData> check_can_live_migrate_source(const RequestContext& context,
                                                                  const std::string& uuid,
                                                                  const std::string& host,
                                                                  const LiveMigrateData& data) = 0;
    virtual Result<LiveMigrateData> pre_live_migration(const RequestContext& context,
                                                       const std::string& uuid,
                                                       const std::string& host,
                                                       const std::string& disks,
                                                       const LiveMigrateData& data) = 0;
    virtual Result<void> post_live_migration_at_destination(const RequestContext& context,
                                                            const std::string& uuid,
                                                            const std::string& host,
                                                            bool block_migration) = 0;
    virtual Result<void> rollback_live_migration_at_destination(const RequestContext& context,
                                                                const std::string& uuid,
                                                                const std::string& host,
                                                                bool destroy_disks,
                                                                const LiveMigrateData& data) = 0;
    virtual Result<void> remove_volume_connection(const RequestContext& context,
                                                  const std::string& uuid, const std::string& host,
                                                  const std::string& volume_id) = 0;
    // A delete came to the host that the server has just left.
    virtual Result<void> terminate_instance(const RequestContext& context, const std::string& uuid,
                                            const std::string& host) = 0;
};

}  // namespace kumoi::compute
