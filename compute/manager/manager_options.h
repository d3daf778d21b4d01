// ManagerOptions: what the manager of a node takes from the configuration, as plain values.
#pragma once

#include <cstdint>
#include <string>

#include "base/config.h"
#include "base/result.h"
#include "compute/live_migration_options.h"

namespace kumoi::compute {

struct ManagerOptions {
    std::string host;
    std::string host_ip = "127.0.0.1";
    std::string state_path = "/var/lib/kumoi";
    std::string instances_path;
    std::string driver = "kumoi";
    int64_t builds_max = 10;
    int64_t shutdown_timeout_s = 60;
    int64_t report_interval_s = 10;
    int64_t update_resources_interval_s = 60;
    int64_t sync_power_state_interval_s = 600;
    int64_t reserved_memory_mb = 512;
    double cpu_allocation_ratio = 4.0;
    double ram_allocation_ratio = 1.0;
    double disk_allocation_ratio = 1.0;
    bool resume_guests_state_on_host_boot = true;
    int64_t vif_plugging_timeout_s = 300;  // 0: network-vif-plugged is not waited for
    bool vif_plugging_is_fatal = true;
    int64_t image_cache_interval_s = 2400;
    int64_t shelved_offload_time_s = 0;  // 0: at once; negative: never by itself
    LiveMigrationSettings live_migration;

    static ManagerOptions from_config(const Config& config);
};

// The identity of this node, made once and kept in `compute_id` below state_path, as Nova keeps it.
Result<std::string> load_or_make_compute_id(const std::string& state_path);

// This node's name as a compute host: [DEFAULT] host, or the machine's own.
std::string configured_host(const Config& config);

}  // namespace kumoi::compute
