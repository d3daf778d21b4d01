#include "compute/driver/guest_monitor.h"

#include <condition_variable>

#include "base/log.h"

namespace kumoi::compute {

GuestMonitor::GuestMonitor(const Clock& clock) : loop_(clock) {
    thread_ = std::thread([this] { loop_.run(); });
}

GuestMonitor::~GuestMonitor() {
    run_on_loop([this] { guests_.clear(); });
    loop_.stop();
    thread_.join();
}

void GuestMonitor::set_listener(std::function<void(const LifecycleEvent&)> listener) {
    const std::lock_guard lock(mutex_);
    listener_ = std::move(listener);
}

Result<void> GuestMonitor::add(const std::string& uuid, const std::string& control_socket,
                               int64_t timeout_ms) {
    auto client = TRY(hypervisor::ControlClient::connect(control_socket, timeout_ms));
    TRY(client.call("subscribe", Json::object(), timeout_ms));
    // shared_ptr: the loop's functions must be copyable, and a callback keeps its guest while it
    // runs.
    auto guest = std::make_shared<Guest>(Guest{std::move(client), {}, false, {}});
    Result<void> result;
    run_on_loop([&] {
        auto watch = loop_.watch(guest->client.fd(), EventLoop::kReadable,
                                 [this, uuid](uint32_t) { on_readable(uuid); });
        if (!watch.ok()) {
            result = watch.error();
            return;
        }
        guest->watch = std::move(*watch);
        guests_[uuid] = guest;
        on_readable(uuid);  // what came together with the answer
    });
    return result;
}

void GuestMonitor::ended_early(const std::string& uuid, bool well) {
    run_on_loop([&] {
        using Kind = LifecycleEvent::Kind;
        tell(uuid, well ? Kind::Stopped : Kind::Crashed, "it ended as soon as it was started");
    });
}

void GuestMonitor::remove(const std::string& uuid) {
    run_on_loop([&] { guests_.erase(uuid); });
}

// Runs it on the loop's thread and waits; at once when this is that thread.
void GuestMonitor::run_on_loop(const std::function<void()>& function) {
    if (std::this_thread::get_id() == thread_.get_id()) {
        function();
        return;
    }
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    loop_.post([&] {
        function();
        const std::lock_guard lock(mutex);
        done = true;
        changed.notify_one();
    });
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return done; });
}

void GuestMonitor::on_readable(const std::string& uuid) {
    const auto found = guests_.find(uuid);
    if (found == guests_.end()) {
        return;
    }
    const std::shared_ptr<Guest> guest = found->second;
    while (true) {
        auto event = guest->client.wait_event(0);
        if (!event.ok()) {
            on_end(uuid, *guest);
            guests_.erase(uuid);
            return;
        }
        if (!event->has_value()) {
            return;
        }
        on_event(uuid, *guest, **event);
    }
}

void GuestMonitor::on_event(const std::string& uuid, Guest& guest,
                            const hypervisor::ControlEvent& event) {
    using Kind = LifecycleEvent::Kind;
    if (event.name == "crashed") {
        guest.told = true;
        tell(uuid, Kind::Crashed, event.data.string_or("reason", "no reason was given"));
    } else if (event.name == "reset") {
        tell(uuid, Kind::Rebooted, event.data.string_or("reason"));
    } else if (event.name == "paused") {
        tell(uuid, Kind::Paused, "");
    } else if (event.name == "resumed") {
        tell(uuid, Kind::Resumed, "");
    } else if (event.name == "shutdown" || event.name == "exiting") {
        // Told when the process has gone, so that whoever looks finds it down.
        guest.last_words = event.data.string_or("reason", "it ended");
    }
}

void GuestMonitor::on_end(const std::string& uuid, Guest& guest) {
    if (guest.told) {
        return;
    }
    if (guest.last_words.empty()) {
        tell(uuid, LifecycleEvent::Kind::Crashed, "its kumoi-vmm process ended without a word");
        return;
    }
    tell(uuid, LifecycleEvent::Kind::Stopped, guest.last_words);
}

void GuestMonitor::tell(const std::string& uuid, LifecycleEvent::Kind kind,
                        const std::string& detail) {
    std::function<void(const LifecycleEvent&)> listener;
    {
        const std::lock_guard lock(mutex_);
        listener = listener_;
    }
    log_debug("driver", "guest event", {{"server", uuid}, {"detail", detail}});
    if (listener) {
        listener({uuid, kind, detail});
    }
}

}  // namespace kumoi::compute
