#include "hypervisor/limits/report_limit.h"

#include <gtest/gtest.h>

#include "base/clock.h"

namespace kumoi::hypervisor {
namespace {

TEST(ReportLimit, SaysAFewAtOnceAndThenOneInTenSeconds) {
    ReportLimit limit;
    const auto allowed = [&limit](int64_t now_ns) {
        int count = 0;
        for (int i = 0; i < 1000; ++i) {
            count += limit.allow(now_ns) ? 1 : 0;
        }
        return count;
    };
    EXPECT_EQ(allowed(0), 10);
    EXPECT_EQ(allowed(9 * kNanosPerSecond), 0);
    EXPECT_EQ(allowed(10 * kNanosPerSecond), 1);
    EXPECT_EQ(allowed(3600 * kNanosPerSecond), 10);
}

}  // namespace
}  // namespace kumoi::hypervisor
