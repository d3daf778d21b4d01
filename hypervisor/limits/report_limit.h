// ReportLimit: how often a guest may make us say the same thing: a few times at once, then once in
// ten seconds. Guests decide how often their devices break; logs and event streams are ours.
// Thread safe.
#pragma once

#include <cstdint>
#include <mutex>

#include "hypervisor/limits/token_bucket_core.h"

namespace kumoi::hypervisor {

class ReportLimit {
public:
    static constexpr uint64_t kBurst = 10;
    static constexpr int64_t kSecondsApart = 10;

    bool allow(int64_t now_ns) {
        const std::lock_guard lock(mutex_);
        const int64_t slowed_ns = now_ns / kSecondsApart;  // a token a second of this clock
        if (bucket_.rate == 0) {
            token_bucket_fill(&bucket_, 1, kBurst, slowed_ns);
        }
        token_bucket_refill(&bucket_, slowed_ns, 0);
        if (!token_bucket_ready(&bucket_, token_count(1))) {
            return false;
        }
        token_bucket_take(&bucket_, token_count(1));
        return true;
    }

private:
    std::mutex mutex_;  // guards bucket_
    TokenBucket bucket_{};
};

}  // namespace kumoi::hypervisor
