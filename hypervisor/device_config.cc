#include "hypervisor/device_config.h"

#include <array>
#include <filesystem>
#include <vector>

#include <fmt/ranges.h>

namespace kumoi::hypervisor {

namespace {

constexpr int64_t kIntervalMsMin = 100;
constexpr int64_t kIntervalMsMax = 24 * 3600 * 1000;
constexpr int64_t kCidMin = 3;  // virtio 1.2 §5.10.4: 0 to 2 are reserved
constexpr int64_t kCidMax = 0xffff'fffe;
constexpr size_t kVsockPathMax = 96;  // with "_4294967295" it must still fit a socket's address

struct Named {
    std::string_view name;
    WatchdogAction action;
};
constexpr std::array<Named, 5> kActions = {{{"reset", WatchdogAction::Reset},
                                            {"poweroff", WatchdogAction::PowerOff},
                                            {"pause", WatchdogAction::Pause},
                                            {"none", WatchdogAction::None},
                                            {"inject-nmi", WatchdogAction::InjectNmi}}};

}  // namespace

Result<BalloonConfig> parse_balloon(const JsonView& view, uint64_t memory_mib) {
    TRY(view.only(
        {"target_mib", "deflate_on_oom", "free_page_reporting", "statistics_interval_ms"}));
    BalloonConfig balloon;
    balloon.enabled = true;
    balloon.target_mib = static_cast<uint64_t>(
        TRY(view.integer_or("target_mib", 0, {0, static_cast<int64_t>(memory_mib)})));
    balloon.deflate_on_oom = TRY(view.boolean_or("deflate_on_oom", true));
    balloon.free_page_reporting = TRY(view.boolean_or("free_page_reporting", true));
    if (view.has("statistics_interval_ms")) {
        balloon.statistics_interval_ms =
            TRY(view.integer("statistics_interval_ms", {kIntervalMsMin, kIntervalMsMax}));
    }
    return balloon;
}

Result<VsockConfig> parse_vsock(const JsonView& view, const std::string& base_directory) {
    TRY(view.only({"cid", "socket"}));
    VsockConfig vsock;
    vsock.enabled = true;
    vsock.cid = static_cast<uint64_t>(TRY(view.integer("cid", {kCidMin, kCidMax})));
    const std::string path = TRY(view.string("socket"));
    if (path.empty() || path.find('\0') != std::string::npos) {
        return TRY(view.at("socket")).error("expected a path");
    }
    vsock.socket = path.front() == '/'
                       ? path
                       : (std::filesystem::path(base_directory) / path).lexically_normal().string();
    if (vsock.socket.size() > kVsockPathMax) {
        return TRY(view.at("socket"))
            .error(fmt::format("the path has {} bytes; at most {} are possible",
                               vsock.socket.size(), kVsockPathMax));
    }
    return vsock;
}

Result<WatchdogConfig> parse_watchdog(const JsonView& view) {
    TRY(view.only({"action"}));
    WatchdogConfig watchdog;
    watchdog.enabled = true;
    const std::string text = TRY(view.string_or("action", "reset"));
    std::vector<std::string_view> names;
    for (const Named& named : kActions) {
        if (named.name == text) {
            watchdog.action = named.action;
            return watchdog;
        }
        names.push_back(named.name);
    }
    return TRY(view.at("action"))
        .error(fmt::format("\"{}\" is not one of {}", text, fmt::join(names, ", ")));
}

std::string_view to_string(WatchdogAction action) {
    for (const Named& named : kActions) {
        if (named.action == action) {
            return named.name;
        }
    }
    return "none";
}

}  // namespace kumoi::hypervisor
