// SerialConsole: what happens to a guest's serial bytes: kept in a scrollback, written to the log,
// sent to everybody who listens.
//
// output() is called by vCPU threads and never blocks: bytes go into a bounded buffer that the loop
// drains; when the loop is stuck longer than the buffer lasts, the oldest bytes are lost and
// counted. Everything else runs on the loop's thread. Listeners get the scrollback when they join.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "base/metrics.h"
#include "hypervisor/console/console_log.h"

namespace kumoi::hypervisor {

class SerialConsole {
public:
    static constexpr size_t kPendingMax = 1u << 20;      // bytes between vCPU and loop
    static constexpr size_t kScrollbackMax = 64u << 10;  // bytes a late listener gets
    using Listener = std::function<void(std::string_view)>;
    using ListenerId = uint64_t;

    SerialConsole(EventLoop& loop, std::optional<ConsoleLog> log);

    void output(std::string_view bytes);  // any thread
    void flush();                         // what is buffered goes out now
    ListenerId add_listener(Listener listener);
    void remove_listener(ListenerId id);
    const std::string& scrollback() const { return scrollback_; }
    // Where typed bytes go; returns how many were taken.
    void set_input(std::function<size_t(std::string_view)> input) { input_ = std::move(input); }
    size_t input(std::string_view bytes) { return input_ ? input_(bytes) : 0; }
    uint64_t dropped_bytes() const { return dropped_.value(); }

private:
    void keep(std::string_view bytes);
    void trim_pending();

    EventLoop& loop_;
    std::optional<ConsoleLog> log_;
    std::string scrollback_;
    std::map<ListenerId, Listener> listeners_;
    ListenerId next_id_ = 1;
    std::function<size_t(std::string_view)> input_;
    Counter dropped_;
    std::mutex mutex_;  // guards pending_ and scheduled_
    std::string pending_;
    bool scheduled_ = false;
};

}  // namespace kumoi::hypervisor
