// Options of live migration, by Nova's names (section [libvirt] too, where its operators look for
// them), and what they mean for one server.
#pragma once

#include <cstdint>
#include <string>

#include "base/config.h"
#include "compute/driver/live_migration.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct LiveMigrationSettings {
    int64_t migrations_max = 1;  // from this host at the same time; 0: no limit
    bool wait_for_vif_plug = true;
    int64_t downtime_ms = 500;
    int64_t downtime_steps = 10;
    int64_t downtime_delay_s = 75;         // for each GiB of the server, as the next
    int64_t completion_timeout_s = 800;    // 0: none
    std::string timeout_action = "abort";  // force_complete
    bool permit_post_copy = false;
    bool permit_auto_converge = false;
    int64_t bandwidth_mib_s = 0;  // 0: no limit
    int64_t parallel_connections = 1;

    static LiveMigrationSettings from_config(const Config& config);
    // Times grow with what has to be copied: its memory, and its disks when they come along.
    LiveMigrationOptions for_server(const Instance& instance, bool block_migration) const;
};

void add_live_migration_options(OptionTable& table);

}  // namespace kumoi::compute
