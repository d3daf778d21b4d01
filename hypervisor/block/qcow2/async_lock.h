// AsyncMutex and RangeLocks: locks whose waiters are coroutines, so that a waiting request never
// holds up its thread. Both may be used from any thread; a waiter is resumed on its own port.
// Handed over in order of arrival.
#pragma once

#include <coroutine>
#include <cstdint>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "hypervisor/block/qcow2/io_port.h"

namespace kumoi::hypervisor::qcow2 {

class AsyncMutex {
public:
    // Releases when destroyed.
    class Hold {
    public:
        explicit Hold(AsyncMutex* mutex) : mutex_(mutex) {}
        Hold(Hold&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
        Hold& operator=(Hold&&) = delete;
        ~Hold() { release(); }
        void release() {
            if (mutex_ != nullptr) {
                std::exchange(mutex_, nullptr)->unlock();
            }
        }

    private:
        AsyncMutex* mutex_;
    };
    struct Awaiter {
        AsyncMutex& mutex;
        IoPort& port;
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<> handle) { return mutex.wait(port, handle); }
        Hold await_resume() const noexcept { return Hold(&mutex); }
    };
    Awaiter lock(IoPort& port) { return {*this, port}; }

private:
    bool wait(IoPort& port, std::coroutine_handle<> handle);  // false: taken at once
    void unlock();

    std::mutex mutex_;  // guards the rest
    bool locked_ = false;
    std::deque<std::pair<IoPort*, std::coroutine_handle<>>> waiters_;
};

// Ranges of guest clusters whose mapping is being changed: one request at a time each.
class RangeLocks {
public:
    class Hold {
    public:
        Hold(RangeLocks* locks, uint64_t first, uint64_t last)
            : locks_(locks), first_(first), last_(last) {}
        Hold(Hold&& other) noexcept
            : locks_(std::exchange(other.locks_, nullptr)),
              first_(other.first_),
              last_(other.last_) {}
        Hold& operator=(Hold&&) = delete;
        ~Hold() { release(); }
        void release() {
            if (locks_ != nullptr) {
                std::exchange(locks_, nullptr)->unlock(first_, last_);
            }
        }

    private:
        RangeLocks* locks_;
        uint64_t first_;
        uint64_t last_;
    };
    struct Awaiter {
        RangeLocks& locks;
        IoPort& port;
        uint64_t first;
        uint64_t last;
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<> handle) {
            return locks.wait(port, handle, first, last);
        }
        Hold await_resume() const noexcept { return {&locks, first, last}; }
    };
    Awaiter lock(IoPort& port, uint64_t first, uint64_t last) { return {*this, port, first, last}; }

private:
    struct Range {
        uint64_t first;
        uint64_t last;
    };
    struct Waiter {
        IoPort* port;
        std::coroutine_handle<> handle;
        Range range;
    };
    bool wait(IoPort& port, std::coroutine_handle<> handle, uint64_t first, uint64_t last);
    void unlock(uint64_t first, uint64_t last);
    bool free(const Range& range, size_t waiters_before) const;

    std::mutex mutex_;  // guards the rest
    std::vector<Range> held_;
    std::deque<Waiter> waiters_;
};

}  // namespace kumoi::hypervisor::qcow2
