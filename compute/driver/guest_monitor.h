// GuestMonitor: listens to the event streams of all kumoi-vmm processes on one thread of its own
// and turns them into lifecycle events. A process that ends without having said why is a crash; one
// that is remove()d first may end in silence. add(), remove() and set_listener() from any thread;
// the listener is called on the monitor's thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/result.h"
#include "compute/driver/virt_driver.h"
#include "hypervisor/control/control_client.h"

namespace kumoi::compute {

class GuestMonitor {
public:
    explicit GuestMonitor(const Clock& clock);
    ~GuestMonitor();
    GuestMonitor(const GuestMonitor&) = delete;
    GuestMonitor& operator=(const GuestMonitor&) = delete;

    void set_listener(std::function<void(const LifecycleEvent&)> listener);
    // Connects and subscribes; blocks for at most timeout_ms. Replaces an earlier one of this
    // server.
    Result<void> add(const std::string& uuid, const std::string& control_socket,
                     int64_t timeout_ms);
    // One that ended before it could be added: the event that is due is delivered.
    void ended_early(const std::string& uuid, bool well);
    void remove(const std::string& uuid);  // no event of it is delivered once this has returned

private:
    struct Guest {
        hypervisor::ControlClient client;
        EventLoop::Watch watch;
        bool told = false;  // the guest is down and the listener knows, or is about to
        std::string last_words;
    };
    void on_readable(const std::string& uuid);
    void on_event(const std::string& uuid, Guest& guest, const hypervisor::ControlEvent& event);
    void on_end(const std::string& uuid, Guest& guest);
    void tell(const std::string& uuid, LifecycleEvent::Kind kind, const std::string& detail);
    void run_on_loop(const std::function<void()>& function);

    EventLoop loop_;
    std::map<std::string, std::shared_ptr<Guest>>
        guests_;        // loop thread; shared with a running callback
    std::mutex mutex_;  // guards listener_
    std::function<void(const LifecycleEvent&)> listener_;
    std::thread thread_;
};

}  // namespace kumoi::compute
