// Vmm's verbs over single devices: balloon, network announcements, and what an expired watchdog
// does.
#include "base/log.h"
#include "hypervisor/machine_state.h"
#include "hypervisor/net/announcement.h"
#include "hypervisor/vmm.h"

namespace kumoi::hypervisor {

namespace {

Error no_balloon() {
    return Error::conflict("the machine has no balloon").with_hint("configure \"balloon\": {}");
}

}  // namespace

Result<void> Vmm::set_balloon(uint64_t mib) {
    if (devices_->balloon() == nullptr) {
        return no_balloon();
    }
    return devices_->balloon()->set_target(mib);
}

Result<Json> Vmm::balloon_json() {
    if (devices_->balloon() == nullptr) {
        return no_balloon();
    }
    const VirtioBalloon::State state = devices_->balloon()->state();
    devices_->balloon()->request_statistics();
    Json statistics = Json::object();
    for (const Statistic& statistic : state.guest_statistics) {
        statistics.set(statistic.name, statistic.value);
    }
    Json json = Json::object({{"target_mib", state.target_mib},
                              {"actual_mib", state.actual_mib},
                              {"statistics", std::move(statistics)}});
    if (state.statistics_age_ms >= 0) {
        json.set("statistics_age_ms", state.statistics_age_ms);
    }
    return json;
}

// Where it stood; after a move, and the time that the move took: two hosts that have the same time
// give the guest the right one. Never less, and no more than a move can take.
uint64_t Vmm::clock_to_go_on(const Arrival& arrival) const {
    const int64_t now = seams_.clock.wall_ns();
    return *paused_clock_ns_ +
           (arrival.clock_since_ns
                ? static_cast<uint64_t>(MachineState::time_of_move(*arrival.clock_since_ns, now))
                : 0);
}

Result<void> Vmm::announce() {
    if (state_ != VmState::Running) {
        return Error::conflict("the machine is {}; only a running one announces itself",
                               to_string(state_));
    }
    if (!announcement_) {
        announcement_ = std::make_unique<Announcement>(seams_.loop, [this] {
            if (state_ == VmState::Running) {  // it may have gone elsewhere meanwhile
                devices_->announce_network();
            }
        });
    }
    announcement_->begin();
    return {};
}

void Vmm::watchdog_expired() {
    if (state_ != VmState::Running) {
        return;
    }
    const std::string action(to_string(config_.watchdog.action));
    if (guest_events_.tell("watchdog", {"watchdog", Json::object({{"action", action}})})) {
        log_warn("vmm", "the guest's watchdog ran out", {{"action", action}});
    }
    // Not from inside the watchdog's own call: the action may reset it.
    seams_.loop.post([this] { watchdog_acts(); });
}

void Vmm::watchdog_acts() {
    Result<void> done;
    switch (config_.watchdog.action) {
        case WatchdogAction::Reset: guest_reset("the watchdog ran out"); break;
        case WatchdogAction::PowerOff: guest_shutdown("the watchdog ran out"); break;
        case WatchdogAction::Pause: done = pause(); break;
        case WatchdogAction::InjectNmi: done = nmi(); break;
        case WatchdogAction::None: break;
    }
    if (!done) {
        if (guest_reports_.admit()) {
            log_warn("vmm", "the watchdog's action failed", {{"error", done.error().text()}});
        }
    }
}

}  // namespace kumoi::hypervisor
