// The members of guest.json for devices that exist at most once: balloon, vsock, watchdog. Part of
// VmConfig; plain values.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::hypervisor {

enum class WatchdogAction { Reset, PowerOff, Pause, None, InjectNmi };

struct BalloonConfig {
    bool enabled = false;
    uint64_t target_mib = 0;
    bool deflate_on_oom = true;
    bool free_page_reporting = true;
    int64_t statistics_interval_ms = 0;  // 0: only when asked
};

struct VsockConfig {
    bool enabled = false;
    uint64_t cid = 0;
    std::string socket;
};

struct WatchdogConfig {
    bool enabled = false;
    WatchdogAction action = WatchdogAction::Reset;
};

Result<BalloonConfig> parse_balloon(const JsonView& view, uint64_t memory_mib);
Result<VsockConfig> parse_vsock(const JsonView& view, const std::string& base_directory);
Result<WatchdogConfig> parse_watchdog(const JsonView& view);
std::string_view to_string(WatchdogAction action);

}  // namespace kumoi::hypervisor
