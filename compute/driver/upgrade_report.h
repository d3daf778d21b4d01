// What became of one guest's live upgrade (docs/reference/live-upgrade.md). A value.
#pragma once

#include <string>
#include <string_view>

namespace kumoi::compute {

struct UpgradeReport {
    enum class Kind {
        Upgraded,    // runs in the installed program
        Current,     // ran in it already
        Older,       // a dry run: would be upgraded
        Stayed,      // runs on where it ran; `reason`
        NotRunning,  // nothing to do: it will start in the installed program
        Lost,        // both processes have ended; `reason`
    };
    Kind kind = Kind::Stayed;
    double stop_ms = -1;  // how long the guest stood still; -1: not known
    std::string reason;
};

constexpr std::string_view to_string(UpgradeReport::Kind kind) {
    switch (kind) {
        case UpgradeReport::Kind::Upgraded: return "upgraded";
        case UpgradeReport::Kind::Current: return "current";
        case UpgradeReport::Kind::Older: return "older";
        case UpgradeReport::Kind::Stayed: return "stayed";
        case UpgradeReport::Kind::NotRunning: return "not running";
        case UpgradeReport::Kind::Lost: return "lost";
    }
    return "stayed";
}

}  // namespace kumoi::compute
