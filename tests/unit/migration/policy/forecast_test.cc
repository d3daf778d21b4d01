#include "migration/policy/forecast.h"

#include <gtest/gtest.h>

namespace kumoi::migration {
namespace {

constexpr uint64_t kMiB = 1u << 20;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kMilli = 1'000'000;

ForecastQuestion question(uint64_t memory_mib, uint64_t bandwidth_mib) {
    return {.memory = memory_mib * kMiB,
            .bandwidth = bandwidth_mib * kMiB,
            .downtime_ns = 100 * kMilli,
            .fixed_ns = 20 * kMilli};
}

TEST(Forecast, AnIdleGuestTakesItsMemoryOverTheLink) {
    const Forecast result = forecast({kSecond, 0, 0}, question(4096, 1024));
    EXPECT_TRUE(result.converges);
    EXPECT_EQ(result.rounds, 1u);
    EXPECT_EQ(result.total_ns, 4 * kSecond + 20 * kMilli);
    EXPECT_EQ(result.downtime_ns, 20 * kMilli);
    EXPECT_EQ(result.bytes, 4096 * kMiB);
}

TEST(Forecast, ASteadyWriterGivesAGeometricRow) {
    // 256 MiB/s against 1024: 4 s, 1 s, 250 ms, 62.5 ms left; 62.5 + 20 fit.
    const Forecast result = forecast({kSecond, 256 * kMiB, 512 * kMiB}, question(4096, 1024));
    EXPECT_TRUE(result.converges);
    EXPECT_EQ(result.rounds, 3u);
    EXPECT_NEAR(static_cast<double>(result.downtime_ns), 82.5 * kMilli, 1e6);
    EXPECT_NEAR(static_cast<double>(result.total_ns), 5.25 * kSecond + 82.5 * kMilli, 1e7);
}

TEST(Forecast, ASmallWorkingSetConvergesHoweverFast) {
    // 50 MiB, all of it written in each period: a second round leaves the same 50 MiB.
    const Forecast result = forecast({100 * kMilli, 50 * kMiB, 50 * kMiB}, question(4096, 1024));
    EXPECT_TRUE(result.converges);
    EXPECT_EQ(result.throttle, 0u);
    EXPECT_NEAR(static_cast<double>(result.downtime_ns), (20 + 48.8) * kMilli, 1e6);
}

TEST(Forecast, SaysHowMuchSlowingDownItTakes) {
    ForecastQuestion asked = question(4096, 1024);
    asked.throttle_max = 99;
    const Forecast result = forecast({kSecond, 2048 * kMiB, 4096 * kMiB}, asked);
    EXPECT_TRUE(result.converges);
    EXPECT_GE(result.throttle, 50u);
    EXPECT_LE(result.throttle, 60u);
    EXPECT_NE(result.verdict.find("lose"), std::string::npos) << result.verdict;
}

TEST(Forecast, SaysWhatElseWouldHelp) {
    const Forecast result = forecast({kSecond, 2048 * kMiB, 4096 * kMiB}, question(4096, 1024));
    EXPECT_FALSE(result.converges);
    EXPECT_EQ(result.post_copy_ns, 4 * kSecond);
    EXPECT_NE(result.verdict.find("2048 MiB/s, the link gives 1024"), std::string::npos)
        << result.verdict;
    EXPECT_NE(result.verdict.find("post-copy"), std::string::npos);
}

TEST(WrittenWithin, FollowsTheWorkingSet) {
    const WriteSample saturating{kSecond, 100, 150};  // x = 0.5: W = 200
    EXPECT_EQ(written_within(saturating, kSecond), 100u);
    EXPECT_EQ(written_within(saturating, 2 * kSecond), 150u);
    EXPECT_NEAR(static_cast<double>(written_within(saturating, 100 * kSecond)), 200, 1);
    EXPECT_EQ(written_within(saturating, 2 * kSecond, 50), 100u);
    EXPECT_EQ(written_within({kSecond, 100, 200}, 10 * kSecond), 1000u);
    EXPECT_EQ(written_within({kSecond, 0, 0}, 10 * kSecond), 0u);
}

}  // namespace
}  // namespace kumoi::migration
