#include "hypervisor/limits/report_limit.h"

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

int admitted(ReportLimit& limit, int tries) {
    int count = 0;
    for (int i = 0; i < tries; ++i) {
        count += limit.admit() ? 1 : 0;
    }
    return count;
}

TEST(ReportLimit, SaysAFewAtOnceAndThenOneInTenSeconds) {
    ManualClock clock;
    ReportLimit limit(clock);
    EXPECT_EQ(admitted(limit, 1000), 10);
    clock.advance(9 * kNanosPerSecond);
    EXPECT_EQ(admitted(limit, 1000), 0);
    clock.advance(kNanosPerSecond);
    EXPECT_EQ(admitted(limit, 1000), 1);
    clock.advance(3600 * kNanosPerSecond);
    EXPECT_EQ(admitted(limit, 1000), 10);
}

TEST(ReportLimit, TellsHowManyItKeptBack) {
    ManualClock clock;
    const uint64_t before = ReportLimit::suppressed_in_all();
    ReportLimit limit(clock, {.burst = 1, .apart_ns = kNanosPerSecond});
    EXPECT_EQ(limit.admit(), 0u);
    EXPECT_EQ(limit.admit(), std::nullopt);
    EXPECT_EQ(limit.admit(), std::nullopt);
    clock.advance(kNanosPerSecond);
    EXPECT_EQ(limit.admit(), 2u);
    clock.advance(kNanosPerSecond);
    EXPECT_EQ(limit.admit(), 0u);
    EXPECT_EQ(limit.suppressed(), 2u);
    EXPECT_EQ(ReportLimit::suppressed_in_all() - before, 2u);
}

TEST(ReportLimit, KeepsItsRateWhateverTheClockSays) {
    ManualClock clock;
    clock.advance(int64_t{1} << 62);  // 146 years after boot
    ReportLimit limit(clock, {.burst = 3, .apart_ns = 100 * kNanosPerMilli});
    EXPECT_EQ(admitted(limit, 10), 3);
    clock.advance(250 * kNanosPerMilli);
    EXPECT_EQ(admitted(limit, 10), 2);
}

}  // namespace
}  // namespace kumoi::hypervisor
