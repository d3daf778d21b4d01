#include "hypervisor/limits/throttle.h"

#include <cmath>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/random.h"

namespace kumoi::hypervisor {
namespace {

using Direction = DiskThrottle::Direction;

// A guest that always has the next request ready, on a clock that only moves when it waits, with
// timers as coarse and as late as wanted.
struct HungryGuest {
    uint64_t request_bytes = 4096;
    Direction direction = Direction::Read;
    int64_t timer_grain_ns = 1;  // timers fire on multiples of this
    int64_t late_ns_max = 0;     // and late by up to this
};

// How many requests pass within `duration_ns`.
uint64_t requests_within(DiskThrottle& throttle, const HungryGuest& guest, ManualClock& clock,
                         int64_t duration_ns, Random& random) {
    const int64_t end = clock.monotonic_ns() + duration_ns;
    uint64_t count = 0;
    while (clock.monotonic_ns() < end) {
        const int64_t wait =
            throttle.admit(guest.direction, guest.request_bytes, clock.monotonic_ns());
        if (wait == 0) {
            ++count;
            continue;
        }
        const int64_t fires =
            (wait + guest.timer_grain_ns - 1) / guest.timer_grain_ns * guest.timer_grain_ns;
        const int64_t late =
            guest.late_ns_max == 0
                ? 0
                : static_cast<int64_t>(random.next() % static_cast<uint64_t>(guest.late_ns_max));
        clock.advance(fires + late);
    }
    return count;
}

double error(double got, double wanted) {
    return std::abs(got - wanted) / wanted;
}

TEST(DiskThrottle, KeepsEveryByteRateWithinTwoPercentInEverySecond) {
    SeededRandom random(1);
    double worst = 0;
    for (uint64_t rate = 256 << 10; rate <= 16ull << 30; rate *= 2) {
        for (const uint64_t size : {512ull, 4096ull, 65536ull, 1048576ull}) {
            if (size * 200 > rate || rate / size > 20'000) {
                continue;  // one request is more than half a percent of a second; or endless
            }
            ManualClock clock;
            DiskThrottle throttle;
            throttle.set({.total_bytes = {.average = rate}}, clock.monotonic_ns());
            for (int second = 0; second < 3; ++second) {
                const uint64_t count =
                    requests_within(throttle, {.request_bytes = size, .timer_grain_ns = 1'000'000},
                                    clock, kNanosPerSecond, random);
                worst = std::max(
                    worst, error(static_cast<double>(count * size), static_cast<double>(rate)));
            }
        }
    }
    EXPECT_LE(worst, 0.02);
    RecordProperty("worst_error", std::to_string(worst));
}

TEST(DiskThrottle, KeepsEveryOperationRateWithinTwoPercent) {
    SeededRandom random(2);
    for (uint64_t rate = 1; rate <= 1'000'000; rate = rate * 3 + 1) {
        ManualClock clock;
        DiskThrottle throttle;
        throttle.set({.write_iops = {.average = rate}}, clock.monotonic_ns());
        const int64_t seconds = rate < 1000 ? 100 : 10;
        const uint64_t count =
            requests_within(throttle, {.direction = Direction::Write, .timer_grain_ns = 1'000'000},
                            clock, seconds * kNanosPerSecond, random);
        EXPECT_LE(error(static_cast<double>(count), static_cast<double>(rate) * seconds), 0.02)
            << rate << " operations a second";
    }
}

// A busy host: timers come up to 50 ms late, five times what the bucket holds.
TEST(DiskThrottle, LateTimersDoNotSlowAGuestDown) {
    SeededRandom random(3);
    for (const uint64_t rate : {1u << 20, 100u << 20, 1000u << 20}) {
        ManualClock clock;
        DiskThrottle throttle;
        throttle.set({.read_bytes = {.average = rate}}, clock.monotonic_ns());
        const uint64_t count = requests_within(throttle,
                                               {.request_bytes = 65536,
                                                .timer_grain_ns = 1'000'000,
                                                .late_ns_max = 50 * kNanosPerMilli},
                                               clock, 20 * kNanosPerSecond, random);
        EXPECT_LE(error(static_cast<double>(count) * 65536, 20.0 * rate), 0.02) << rate;
    }
}

TEST(DiskThrottle, RequestsLargerThanTheBucketPassAtTheirRate) {
    SeededRandom random(4);
    ManualClock clock;
    DiskThrottle throttle;
    throttle.set({.total_bytes = {.average = 1 << 20}}, clock.monotonic_ns());
    const uint64_t count = requests_within(throttle, {.request_bytes = 8 << 20}, clock,
                                           1000 * kNanosPerSecond, random);
    EXPECT_LE(error(static_cast<double>(count) * 8, 1000), 0.02);
}

TEST(DiskThrottle, ABurstLastsAsLongAsItSays) {
    SeededRandom random(5);
    ManualClock clock;
    DiskThrottle throttle;
    throttle.set({.total_iops = {.average = 100, .maximum = 2000, .length = 60}},
                 clock.monotonic_ns());
    // The bucket drains at 2000 - 100 a second: a little more than 60 seconds at full speed.
    const uint64_t burst = requests_within(throttle, {}, clock, 60 * kNanosPerSecond, random);
    EXPECT_LE(error(static_cast<double>(burst), 60 * 2000), 0.02);
    (void)requests_within(throttle, {}, clock, 10 * kNanosPerSecond, random);
    const uint64_t after = requests_within(throttle, {}, clock, 60 * kNanosPerSecond, random);
    EXPECT_LE(error(static_cast<double>(after), 60 * 100), 0.02);
    clock.advance(1200 * kNanosPerSecond + kNanosPerSecond);  // 120000 tokens at 100 a second
    const uint64_t again = requests_within(throttle, {}, clock, 60 * kNanosPerSecond, random);
    EXPECT_LE(error(static_cast<double>(again), 60 * 2000), 0.02);
}

TEST(DiskThrottle, DirectionsAreLimitedApart) {
    ManualClock clock;
    DiskThrottle throttle;
    throttle.set({.write_iops = {.average = 1}}, 0);
    EXPECT_EQ(throttle.admit(Direction::Write, 512, 0), 0);
    EXPECT_EQ(throttle.admit(Direction::Write, 512, 0), kNanosPerSecond);
    for (int i = 0; i < 1000; ++i) {
        ASSERT_EQ(throttle.admit(Direction::Read, 1 << 20, 0), 0);
    }
}

TEST(DiskThrottle, BothBytesAndOperationsMustAgree) {
    DiskThrottle throttle;
    throttle.set({.total_bytes = {.average = 1000 * 512}, .total_iops = {.average = 10}}, 0);
    EXPECT_EQ(throttle.admit(Direction::Read, 512, 0), 0);
    EXPECT_EQ(throttle.admit(Direction::Read, 512, 0), kNanosPerSecond / 10);
    // What was refused took nothing: after the wait it passes.
    EXPECT_EQ(throttle.admit(Direction::Read, 512, kNanosPerSecond / 10), 0);
}

TEST(DiskThrottle, LargeRequestsCountAsSeveral) {
    DiskThrottle throttle;
    throttle.set({.total_iops = {.average = 16}, .iops_size = 4096}, 0);
    EXPECT_EQ(throttle.admit(Direction::Read, 8 * 4096 + 1, 0), 0);  // nine
    EXPECT_EQ(throttle.admit(Direction::Read, 512, 0),
              kNanosPerSecond * 9 / 16);  // debt and itself
}

TEST(DiskThrottle, NewLimitsAreInForceAtOnce) {
    DiskThrottle throttle;
    throttle.set({.total_iops = {.average = 1}}, 0);
    EXPECT_EQ(throttle.admit(Direction::Read, 512, 0), 0);
    EXPECT_GT(throttle.admit(Direction::Read, 512, 0), 0);
    throttle.set({.total_iops = {.average = 1000}}, 0);
    EXPECT_EQ(throttle.admit(Direction::Read, 512, 0), 0);
    throttle.set({}, 0);
    EXPECT_FALSE(throttle.limited());
    EXPECT_EQ(throttle.admit(Direction::Read, 512, 0), 0);
    EXPECT_EQ(throttle.limits(), DiskLimits{});
}

TEST(DiskThrottle, ClocksThatGoBackGiveNothing) {
    DiskThrottle throttle;
    throttle.set({.total_iops = {.average = 1}}, 100 * kNanosPerSecond);
    EXPECT_EQ(throttle.admit(Direction::Read, 512, 100 * kNanosPerSecond), 0);
    EXPECT_GT(throttle.admit(Direction::Read, 512, 0), 0);
    EXPECT_GT(throttle.admit(Direction::Read, 512, INT64_MIN), 0);
}

TEST(DiskThrottle, RefusesLimitsThatMakeNoSense) {
    EXPECT_TRUE(check_limits(DiskLimits{}).ok());
    EXPECT_TRUE(check_limits(DiskLimits{.read_bytes = {.average = 5, .maximum = 10}}).ok());
    EXPECT_FALSE(check_limits(DiskLimits{.read_bytes = {.average = 1ull << 41}}).ok());
    EXPECT_FALSE(check_limits(DiskLimits{.read_bytes = {.average = 10, .maximum = 5}}).ok());
    EXPECT_FALSE(check_limits(DiskLimits{.read_bytes = {.maximum = 5}}).ok());
    EXPECT_FALSE(check_limits(DiskLimits{.read_bytes = {.average = 5, .length = 0}}).ok());
    EXPECT_FALSE(check_limits(DiskLimits{.read_bytes = {.average = 5, .length = 2}}).ok());
    const auto both =
        check_limits(DiskLimits{.total_iops = {.average = 5}, .read_iops = {.average = 5}});
    ASSERT_FALSE(both.ok());
    EXPECT_FALSE(both.error().hint.empty());
}

TEST(NicThrottle, KeepsTheRateOfFramesItSeesTooLate) {
    using NicDirection = NicThrottle::Direction;
    for (const uint64_t rate : {64u << 10, 1u << 20, 50u << 20}) {
        ManualClock clock;
        NicThrottle throttle;
        throttle.set({.inbound = {.average = rate}}, 0);
        EXPECT_FALSE(throttle.limited(NicDirection::Outbound));
        uint64_t bytes = 0;
        while (clock.monotonic_ns() < 10 * kNanosPerSecond) {
            if (const int64_t wait = throttle.admit(NicDirection::Inbound, clock.monotonic_ns());
                wait > 0) {
                clock.advance((wait / kNanosPerMilli + 1) * kNanosPerMilli);
                continue;
            }
            throttle.count(NicDirection::Inbound, 1514);
            bytes += 1514;
        }
        EXPECT_LE(error(static_cast<double>(bytes), 10.0 * static_cast<double>(rate)), 0.02);
    }
}

TEST(NicThrottle, ABurstGoesAtThePeakRate) {
    using NicDirection = NicThrottle::Direction;
    ManualClock clock;
    NicThrottle throttle;  // 1 MiB at 10 MiB/s, then 1 MiB/s
    throttle.set({.outbound = {.average = 1 << 20, .maximum = 10 << 20, .burst = 1 << 20}}, 0);
    uint64_t bytes = 0;
    while (clock.monotonic_ns() < kNanosPerSecond / 10) {
        if (const int64_t wait = throttle.admit(NicDirection::Outbound, clock.monotonic_ns())) {
            clock.advance(wait);
            continue;
        }
        throttle.count(NicDirection::Outbound, 1514);
        bytes += 1514;
    }
    EXPECT_LE(error(static_cast<double>(bytes), 1.1 * (1 << 20)), 0.02);
}

}  // namespace
}  // namespace kumoi::hypervisor
