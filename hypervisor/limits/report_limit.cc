#include "hypervisor/limits/report_limit.h"

#include <atomic>
#include <utility>

namespace kumoi::hypervisor {

namespace {
std::atomic<uint64_t> g_suppressed{0};
}  // namespace

ReportLimit::ReportLimit(const Clock& clock, ReportRate rate) : clock_(clock), rate_(rate) {}

std::optional<uint64_t> ReportLimit::admit() {
    const std::lock_guard lock(mutex_);
    // A clock that has gone one second when `apart_ns` have: one token a second of it.
    const auto slowed_ns = static_cast<int64_t>(static_cast<__int128>(clock_.monotonic_ns()) *
                                                kNanosPerSecond / rate_.apart_ns);
    if (bucket_.rate == 0) {
        token_bucket_fill(&bucket_, 1, rate_.burst, slowed_ns);
    }
    token_bucket_refill(&bucket_, slowed_ns, 0);
    if (!token_bucket_ready(&bucket_, token_count(1))) {
        ++suppressed_;
        ++unreported_;
        g_suppressed.fetch_add(1, std::memory_order_relaxed);
        return std::nullopt;
    }
    token_bucket_take(&bucket_, token_count(1));
    return std::exchange(unreported_, 0);
}

uint64_t ReportLimit::suppressed() const {
    const std::lock_guard lock(mutex_);
    return suppressed_;
}

uint64_t ReportLimit::suppressed_in_all() {
    return g_suppressed.load(std::memory_order_relaxed);
}

const Clock& ReportLimit::machine_clock() {
    static const SystemClock clock;
    return clock;
}

}  // namespace kumoi::hypervisor
