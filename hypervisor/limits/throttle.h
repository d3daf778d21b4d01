// Throttle: a RateLimit in force.
//
// DiskThrottle and NicThrottle put the limits of one device together: an operation passes when all
// of them let it. Both are thread safe: one lock, and none when nothing is limited. Time comes in
// with each call. Whoever is told to wait asks again after that time; time it oversleeps is made
// good, so late timers do not slow a guest down.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "hypervisor/limits/limits.h"
#include "hypervisor/limits/token_bucket_core.h"

namespace kumoi::hypervisor {

class Throttle {
public:
    void set(const RateLimit& limit, int64_t now_ns, uint64_t unit_min);
    bool limited() const { return count_ != 0; }
    int64_t ask(uint64_t cost, int64_t now_ns);  // nanoseconds to wait; 0: take() may follow
    void take(uint64_t cost);
    void forget_wait() { due_ns_ = 0; }  // whoever waited will ask as if for the first time

private:
    std::array<TokenBucket, 2> buckets_{};  // the average's, and the burst's own speed
    unsigned count_ = 0;
    int64_t due_ns_ = 0;  // when the first who waits was to ask again; 0: nobody waits
};

class DiskThrottle {
public:
    enum class Direction { Read, Write };
    void set(const DiskLimits& limits, int64_t now_ns);
    DiskLimits limits() const;
    bool limited() const { return limited_.load(std::memory_order_relaxed); }
    // 0: the operation may go and has been counted. Else nanoseconds to wait before asking again.
    int64_t admit(Direction direction, uint64_t bytes, int64_t now_ns);
    void charge(Direction direction, uint64_t bytes);  // it goes whatever the limits say

private:
    struct Cost {
        Throttle* throttle;
        uint64_t units;
    };
    std::array<Cost, 4> costs(Direction direction, uint64_t bytes);
    uint64_t operations(uint64_t bytes) const;

    std::atomic<bool> limited_{false};
    mutable std::mutex mutex_;  // guards the rest
    DiskLimits limits_;
    Throttle total_bytes_, total_iops_;
    std::array<Throttle, 2> bytes_, iops_;  // by direction
};

class NicThrottle {
public:
    enum class Direction { Inbound, Outbound };
    void set(const NicLimits& limits, int64_t now_ns);
    NicLimits limits() const;
    bool limited(Direction direction) const {
        return limited_[index(direction)].load(std::memory_order_relaxed);
    }
    // 0: a frame may go. Its size may be unknown before it has been received, so it is counted
    // afterwards: the bucket pays for what was too much.
    int64_t admit(Direction direction, int64_t now_ns);
    void count(Direction direction, uint64_t bytes);
    void forget_wait(Direction direction);

private:
    static size_t index(Direction direction) { return static_cast<size_t>(direction); }

    std::array<std::atomic<bool>, 2> limited_{};
    mutable std::mutex mutex_;  // guards the rest
    NicLimits limits_;
    std::array<Throttle, 2> throttles_;
};

}  // namespace kumoi::hypervisor
