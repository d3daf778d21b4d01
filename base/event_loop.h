// EventLoop: one epoll loop that runs posted functions, timers and descriptor watches on the thread
// that called run(). post() and stop() may be called from any thread; everything else only from the
// loop's thread (or before run()).
//
//     EventLoop loop(clock);
//     auto watch = TRY(loop.watch(fd, EventLoop::kReadable, [&](uint32_t events) { ... }));
//     loop.call_after(5 * kNanosPerSecond, [&] { ... });
//     loop.run();                        // until stop()
//
// Timers follow the injected Clock; with a ManualClock a test calls run_ready() after advancing it.
// Equal deadlines fire in the order they were set. A callback may add and remove watches and
// timers.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace kumoi {

class EventLoop {
public:
    using TimerId = uint64_t;
    static constexpr uint32_t kReadable = 1;  // also set on hang-up and error, so a read finds it
    static constexpr uint32_t kWritable = 4;

    // Stops watching when destroyed. Must not outlive the loop.
    class Watch {
    public:
        Watch() = default;
        ~Watch() { reset(); }
        Watch(Watch&& other) noexcept;
        Watch& operator=(Watch&& other) noexcept;
        Watch(const Watch&) = delete;
        Watch& operator=(const Watch&) = delete;
        Result<void> set_events(uint32_t events);
        void reset();

    private:
        friend class EventLoop;
        EventLoop* loop_ = nullptr;
        uint64_t id_ = 0;
    };

    explicit EventLoop(const Clock& clock);
    ~EventLoop();
    EventLoop(const EventLoop&) = delete;
    EventLoop& operator=(const EventLoop&) = delete;

    void run();        // returns after stop(); posted functions that are queued by then still run
    void run_ready();  // runs what is due now, waits for nothing
    void stop();
    bool stopping();  // stop() was called, and run() has not returned since
    void post(std::function<void()> function);
    TimerId call_after(int64_t delay_ns, std::function<void()> function);
    bool cancel(TimerId id);  // false when it has fired or never was
    Result<Watch> watch(int fd, uint32_t events, std::function<void(uint32_t events)> function);

private:
    struct Watched {
        int fd;
        std::shared_ptr<std::function<void(uint32_t)>>
            function;  // shared: may be removed while it runs
    };
    void unwatch(uint64_t id);
    void wait_and_dispatch(int timeout_ms);
    void run_posted();
    void run_due_timers();
    int next_timeout_ms() const;

    const Clock& clock_;
    UniqueFd epoll_;
    UniqueFd wake_;
    std::mutex mutex_;  // guards posted_ and stopping_
    std::vector<std::function<void()>> posted_;
    bool stopping_ = false;
    uint64_t next_id_ = 1;
    std::map<std::pair<int64_t, TimerId>, std::function<void()>> timers_;
    std::unordered_map<TimerId, int64_t> timer_deadlines_;
    std::unordered_map<uint64_t, Watched> watches_;
};

}  // namespace kumoi
