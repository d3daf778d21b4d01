// GuestEvents: the events that a guest causes, on their way to the control socket. A guest can
// reset itself, crash, or let its watchdog run out as often as it likes; whoever subscribed gets
// ten of a kind at once and then one in ten seconds, and always the last one: what was kept back
// is published when its turn comes, with "suppressed": how many there were in between.
//
//     if (events.tell("state", {"reset", data})) { log_info(...); }   // the log has the same limit
//
// Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "hypervisor/control/protocol.h"
#include "hypervisor/limits/report_limit.h"

namespace kumoi::hypervisor {

class GuestEvents {
public:
    using Publish = std::function<void(const ControlEvent&)>;
    GuestEvents(EventLoop& loop, const Clock& clock, Publish publish);
    ~GuestEvents();
    GuestEvents(const GuestEvents&) = delete;
    GuestEvents& operator=(const GuestEvents&) = delete;

    // True when it went out at once. `kind`: one of a few constants, never the guest's words.
    bool tell(std::string_view kind, ControlEvent event, ReportRate rate = {});
    // Something newer was published: what waits of this kind would say what is no longer so.
    void forget(std::string_view kind);

private:
    struct Kind {
        Kind(const Clock& clock, ReportRate rate) : limit(clock, rate) {}
        ReportLimit limit;
        ControlEvent waiting;
        uint64_t suppressed = 0;       // those that `waiting` stands for, itself left out
        EventLoop::TimerId timer = 0;  // 0: nothing waits
    };
    void hold(Kind& kind, ControlEvent event);
    void publish_waiting(Kind& kind);

    EventLoop& loop_;
    const Clock& clock_;
    Publish publish_;
    std::map<std::string, std::unique_ptr<Kind>, std::less<>> kinds_;
};

}  // namespace kumoi::hypervisor
