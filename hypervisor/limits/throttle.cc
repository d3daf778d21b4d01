#include "hypervisor/limits/throttle.h"

#include <algorithm>

#include "base/clock.h"

namespace kumoi::hypervisor {

namespace {

// Without bursts a bucket still needs room, for timers wake us a little late: this much of a
// second, which is also by how much one second may exceed the limit.
constexpr uint64_t kSlackPerSecond = 100;  // 10 ms, 1 %

uint64_t clamp_capacity(uint64_t units, uint64_t unit_min) {
    return std::clamp<uint64_t>(units, std::max<uint64_t>(unit_min, 1), KUMOI_TOKEN_CAPACITY_MAX);
}

uint64_t clamp_rate(uint64_t rate) {
    return std::clamp<uint64_t>(rate, 1, KUMOI_TOKEN_RATE_MAX);
}

}  // namespace

// --- Throttle ---

void Throttle::set(const RateLimit& limit, int64_t now_ns, uint64_t unit_min) {
    count_ = 0;
    due_ns_ = 0;
    if (limit.average == 0) {
        return;
    }
    const uint64_t average = clamp_rate(limit.average);
    const uint64_t slack = average / kSlackPerSecond;
    const uint64_t burst = limit.burst != 0     ? limit.burst
                           : limit.maximum != 0 ? clamp_rate(limit.maximum) * limit.length
                                                : slack;
    token_bucket_fill(&buckets_[count_++], average, clamp_capacity(burst, unit_min), now_ns);
    if (limit.maximum != 0) {
        const uint64_t maximum = clamp_rate(limit.maximum);
        token_bucket_fill(&buckets_[count_++], maximum,
                          clamp_capacity(maximum / kSlackPerSecond, unit_min), now_ns);
    }
}

int64_t Throttle::ask(uint64_t cost, int64_t now_ns) {
    const bool late = due_ns_ != 0 && now_ns > due_ns_;
    const TokenCount tokens = token_count(std::min(cost, KUMOI_TOKEN_COST_MAX));
    int64_t wait = 0;
    for (unsigned i = 0; i < count_; ++i) {
        token_bucket_refill(&buckets_[i], now_ns, late ? 1 : 0);
        wait = std::max(wait, token_bucket_wait_ns(&buckets_[i], tokens));
    }
    if (late || wait == 0) {
        due_ns_ = 0;
    }
    if (wait > 0) {
        int64_t due = 0;
        if (__builtin_add_overflow(now_ns, wait, &due)) {
            due = INT64_MAX;
        }
        due_ns_ = due_ns_ == 0 ? due : std::min(due_ns_, due);
    }
    return wait;
}

// A debt is bounded by the dearest request, for only a pause takes what is not there.
void Throttle::take(uint64_t cost) {
    const TokenCount tokens = token_count(std::min(cost, KUMOI_TOKEN_COST_MAX));
    for (unsigned i = 0; i < count_; ++i) {
        token_bucket_take(&buckets_[i], tokens);
    }
}

// --- DiskThrottle ---

void DiskThrottle::set(const DiskLimits& limits, int64_t now_ns) {
    const std::lock_guard lock(mutex_);
    limits_ = limits;
    const uint64_t sector = 512;
    total_bytes_.set(limits.total_bytes, now_ns, sector);
    bytes_[0].set(limits.read_bytes, now_ns, sector);
    bytes_[1].set(limits.write_bytes, now_ns, sector);
    total_iops_.set(limits.total_iops, now_ns, 1);
    iops_[0].set(limits.read_iops, now_ns, 1);
    iops_[1].set(limits.write_iops, now_ns, 1);
    limited_ = total_bytes_.limited() || total_iops_.limited() || bytes_[0].limited() ||
               bytes_[1].limited() || iops_[0].limited() || iops_[1].limited();
}

DiskLimits DiskThrottle::limits() const {
    const std::lock_guard lock(mutex_);
    return limits_;
}

uint64_t DiskThrottle::operations(uint64_t bytes) const {
    if (limits_.iops_size == 0 || bytes <= limits_.iops_size) {
        return 1;
    }
    return (bytes + limits_.iops_size - 1) / limits_.iops_size;
}

std::array<DiskThrottle::Cost, 4> DiskThrottle::costs(Direction direction, uint64_t bytes) {
    const auto one = static_cast<size_t>(direction);
    const uint64_t count = operations(bytes);
    return {{{&total_bytes_, bytes},
             {&bytes_[one], bytes},
             {&total_iops_, count},
             {&iops_[one], count}}};
}

int64_t DiskThrottle::admit(Direction direction, uint64_t bytes, int64_t now_ns) {
    if (!limited()) {
        return 0;
    }
    const std::lock_guard lock(mutex_);
    const auto asked = costs(direction, bytes);
    int64_t wait = 0;
    for (const Cost& cost : asked) {
        wait = std::max(wait, cost.throttle->ask(cost.units, now_ns));
    }
    if (wait > 0) {
        return wait;
    }
    for (const Cost& cost : asked) {
        cost.throttle->take(cost.units);
    }
    return 0;
}

void DiskThrottle::charge(Direction direction, uint64_t bytes) {
    if (limited()) {
        const std::lock_guard lock(mutex_);
        for (const Cost& cost : costs(direction, bytes)) {
            cost.throttle->take(cost.units);
        }
    }
}

// --- NicThrottle ---

void NicThrottle::set(const NicLimits& limits, int64_t now_ns) {
    constexpr uint64_t kFrameMin = 64;
    const std::lock_guard lock(mutex_);
    limits_ = limits;
    const std::array<const RateLimit*, 2> wanted{&limits.inbound, &limits.outbound};
    for (size_t i = 0; i < wanted.size(); ++i) {
        throttles_[i].set(*wanted[i], now_ns, kFrameMin);
        limited_[i] = throttles_[i].limited();
    }
}

NicLimits NicThrottle::limits() const {
    const std::lock_guard lock(mutex_);
    return limits_;
}

int64_t NicThrottle::admit(Direction direction, int64_t now_ns) {
    if (!limited(direction)) {
        return 0;
    }
    const std::lock_guard lock(mutex_);
    return throttles_[index(direction)].ask(1, now_ns);
}

void NicThrottle::count(Direction direction, uint64_t bytes) {
    if (limited(direction)) {
        const std::lock_guard lock(mutex_);
        throttles_[index(direction)].take(bytes);
    }
}

void NicThrottle::forget_wait(Direction direction) {
    const std::lock_guard lock(mutex_);
    throttles_[index(direction)].forget_wait();
}

}  // namespace kumoi::hypervisor
