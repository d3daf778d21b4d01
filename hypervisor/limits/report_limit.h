// ReportLimit: how often a guest may make us say the same thing: a few times at once, then once in
// ten seconds. Guests decide how often their devices break, their processors reset and their
// windows cannot be mapped; logs and event streams are ours. What is kept back is counted, and the
// next report says how many there were:
//
//     if (const auto unreported = reports_.admit()) {
//         log_warn("display", "...", {{"unreported", *unreported}});
//     }
//
// Thread safe. docs/reference/hostile-guests.md lists who uses it.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include "base/clock.h"
#include "hypervisor/limits/token_bucket_core.h"

namespace kumoi::hypervisor {

struct ReportRate {
    uint64_t burst = 10;                      // this many at once
    int64_t apart_ns = 10 * kNanosPerSecond;  // and then one in so long
};

class ReportLimit {
public:
    explicit ReportLimit(const Clock& clock = machine_clock(), ReportRate rate = {});

    // Whether to report now: how many were kept back since the last report, or nothing.
    std::optional<uint64_t> admit();
    uint64_t suppressed() const;  // since the beginning
    int64_t apart_ns() const { return rate_.apart_ns; }

    // Of all limits of this process, as the machine's statistics tell it.
    static uint64_t suppressed_in_all();
    static const Clock& machine_clock();  // the system's, for owners without a clock of their own

private:
    const Clock& clock_;
    const ReportRate rate_;
    mutable std::mutex mutex_;  // guards all below
    TokenBucket bucket_{};
    uint64_t suppressed_ = 0;
    uint64_t unreported_ = 0;
};

}  // namespace kumoi::hypervisor
