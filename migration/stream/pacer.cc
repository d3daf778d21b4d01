#include "migration/stream/pacer.h"

#include <algorithm>

namespace kumoi::migration {

int64_t Pacer::book(uint64_t bytes, int64_t now_ns) {
    if (rate_ == 0) {
        return 0;
    }
    const auto takes =
        static_cast<int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(rate_));
    const std::lock_guard lock(mutex_);
    free_ns_ = std::max(free_ns_, now_ns - kBurstNs);
    const int64_t wait = std::max<int64_t>(free_ns_ - now_ns, 0);
    free_ns_ += takes;
    return wait;
}

}  // namespace kumoi::migration
