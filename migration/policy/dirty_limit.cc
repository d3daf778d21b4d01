#include "migration/policy/dirty_limit.h"

#include <algorithm>
#include <vector>

namespace kumoi::migration {

uint64_t dirty_limit(std::span<const uint64_t> rates, uint64_t total) {
    std::vector<uint64_t> rising(rates.begin(), rates.end());
    std::sort(rising.begin(), rising.end());
    uint64_t left = total;  // for those from the `i`th on
    for (size_t i = 0; i < rising.size(); ++i) {
        const uint64_t share = left / (rising.size() - i);
        if (rising[i] > share) {
            return std::max(share, kDirtyLimitMin);
        }
        left -= rising[i];
    }
    return std::max(total, kDirtyLimitMin);
}

uint64_t dirty_allowance(unsigned throttle_percent, uint64_t bandwidth) {
    return bandwidth / 100 * (100 - std::min(throttle_percent, 100u));
}

}  // namespace kumoi::migration
