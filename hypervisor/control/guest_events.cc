#include "hypervisor/control/guest_events.h"

#include <utility>

namespace kumoi::hypervisor {

GuestEvents::GuestEvents(EventLoop& loop, const Clock& clock, Publish publish)
    : loop_(loop), clock_(clock), publish_(std::move(publish)) {}

GuestEvents::~GuestEvents() {
    for (const auto& [name, kind] : kinds_) {
        if (kind->timer != 0) {
            loop_.cancel(kind->timer);
        }
    }
}

bool GuestEvents::tell(std::string_view name, ControlEvent event, ReportRate rate) {
    auto found = kinds_.find(name);
    if (found == kinds_.end()) {
        found = kinds_.emplace(name, std::make_unique<Kind>(clock_, rate)).first;
    }
    Kind& kind = *found->second;
    // One that waits goes first, so a new one takes its place instead of overtaking it.
    if (kind.timer == 0 && kind.limit.admit()) {
        publish_(event);
        return true;
    }
    hold(kind, std::move(event));
    return false;
}

void GuestEvents::hold(Kind& kind, ControlEvent event) {
    kind.waiting = std::move(event);
    if (kind.timer != 0) {
        ++kind.suppressed;
        return;
    }
    kind.timer = loop_.call_after(kind.limit.apart_ns(), [this, &kind] { publish_waiting(kind); });
}

void GuestEvents::publish_waiting(Kind& kind) {
    kind.timer = 0;
    kind.limit.admit();  // its turn is this one
    ControlEvent event = std::exchange(kind.waiting, {});
    event.data.set("suppressed", std::exchange(kind.suppressed, 0));
    publish_(event);
}

void GuestEvents::forget(std::string_view name) {
    const auto found = kinds_.find(name);
    if (found == kinds_.end() || found->second->timer == 0) {
        return;
    }
    Kind& kind = *found->second;
    loop_.cancel(std::exchange(kind.timer, 0));
    kind.waiting = {};
    kind.suppressed = 0;
}

}  // namespace kumoi::hypervisor
