// PeriodicOptions: which of nova-compute's periodic tasks a node runs in a real cloud, and how
// often, by Nova's names. An interval below 0 switches a task off, 0 means every 60 seconds.
#pragma once

#include <cstdint>
#include <string>

#include "base/config.h"

namespace kumoi::compute {

struct PeriodicOptions {
    int64_t heal_info_cache_interval_s = 60;
    int64_t scheduler_sync_interval_s = 120;
    int64_t instance_build_timeout_s = 0;  // this and the next: 0 is off
    int64_t reboot_timeout_s = 0;
    int64_t rescue_timeout_s = 0;
    int64_t resize_confirm_window_s = 0;
    int64_t shelved_offload_time_s = 0;
    int64_t shelved_poll_interval_s = 3600;
    int64_t reclaim_instance_interval_s = 0;
    int64_t instance_delete_interval_s = 300;
    int64_t delete_attempts_max = 5;
    std::string running_deleted_action = "reap";
    int64_t running_deleted_poll_interval_s = 1800;
    int64_t running_deleted_timeout_s = 0;
    bool usage_audit = false;
    std::string usage_audit_period = "month";

    static PeriodicOptions from_config(const Config& config);
};

void add_periodic_options(OptionTable& table);

}  // namespace kumoi::compute
