// LiveMigrateData: what the two hosts of a live migration tell each other about it, as Nova's
// LibvirtLiveMigrateData: begun by the destination's check, completed by the source's, by whoever
// binds the ports there (nova-conductor), and by pre_live_migration. A plain value.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "compute/driver/live_migration.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct LiveMigrateData {
    std::string migration_uuid;
    std::string facts;  // of the destination's driver
    // What was asked for (nothing: whatever fits); from the source's check on, what is done.
    std::optional<bool> block_migration;
    bool is_shared_instance_path = false;
    bool disk_over_commit = false;
    bool is_volume_backed = false;
    // The server's interfaces as the destination is to plug them; empty: as its record has them.
    std::vector<VifInfo> vifs;
    // From pre_live_migration on:
    std::string arrival;                                    // of the destination's driver
    std::map<std::string, std::string> old_attachment_ids;  // volume -> the source's attachment
    bool wait_for_vif_plugged = false;
    Json wire;  // as it came, for what is not ours; null: from nowhere

    LiveMigrationPlan plan() const {
        return {block_migration.value_or(false), is_shared_instance_path};
    }
};

// live_migration: a cast to the source.
struct LiveMigrationRequest {
    RequestContext context;
    std::string uuid;
    std::string destination;  // host
    LiveMigrateData data;
};

// check_can_live_migrate_destination: a call.
struct LiveMigrationCheck {
    RequestContext context;
    std::string uuid;
    std::optional<bool> block_migration;  // nothing: whatever fits
    bool disk_over_commit = false;
};

}  // namespace kumoi::compute
