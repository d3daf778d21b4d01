#include "migration/policy/convergence.h"

#include <gtest/gtest.h>

namespace kumoi::migration {
namespace {

constexpr uint64_t kMiB = 1u << 20;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kMilli = 1'000'000;

RoundReport report(uint64_t sent, int64_t took, uint64_t remaining) {
    return {.carried = sent, .took_ns = took, .remaining = remaining, .since_ns = took};
}

// A guest that writes to a working set at a rate, over a link: what is left after each round.
unsigned rounds_until_stop(Convergence& convergence, uint64_t memory, uint64_t working_set,
                           double rate, double link, Convergence::Advice& last) {
    double send = static_cast<double>(memory);
    for (unsigned round = 1; round < 200; ++round) {
        const double took = send / link;
        const double slowed = rate * (100.0 - last.throttle) / 100;
        const double dirty = std::min(static_cast<double>(working_set), took * slowed);
        last = convergence.round(report(static_cast<uint64_t>(send),
                                        static_cast<int64_t>(took * kSecond),
                                        static_cast<uint64_t>(dirty)));
        if (last.step != Convergence::Step::Copy) {
            return round;
        }
        send = dirty;
    }
    return 0;
}

TEST(Convergence, AnIdleGuestStopsAfterOneRound) {
    Convergence convergence({.downtime_ns = 100 * kMilli});
    const auto advice = convergence.round(report(1024 * kMiB, kSecond, 0));
    EXPECT_EQ(advice.step, Convergence::Step::Stop);
    EXPECT_EQ(advice.bandwidth, 1024 * kMiB);
    EXPECT_TRUE(advice.verdict.empty());
}

TEST(Convergence, TheFixedPartCountsAgainstTheGoal) {
    Convergence convergence({.downtime_ns = 30 * kMilli});
    convergence.set_fixed(15 * kMilli);
    EXPECT_EQ(convergence.round(report(1000 * kMiB, kSecond, 14 * kMiB)).step,
              Convergence::Step::Stop);  // 15 + 14
    convergence.set_fixed(18 * kMilli);
    EXPECT_EQ(convergence.round(report(1000 * kMiB, kSecond, 14 * kMiB)).step,
              Convergence::Step::Copy);  // 18 + 14
}

// What it writes between the advice and its stop is too much for this link, every time.
TEST(Convergence, AStopInVainIsNotTriedAgainAtOnce) {
    Convergence convergence({.downtime_ns = 20 * kMilli});
    convergence.set_fixed(11 * kMilli);
    const RoundReport round = report(4 * kMiB, kSecond, kMiB / 64);
    const auto rounds_until_next_stop = [&](Convergence::Advice& advice) {
        for (unsigned rounds = 1; rounds < 1000; ++rounds) {
            advice = convergence.round(round);
            if (advice.step == Convergence::Step::Stop) {
                return rounds;
            }
        }
        return 0u;
    };
    Convergence::Advice advice;
    EXPECT_EQ(rounds_until_next_stop(advice), 1u);
    convergence.stopped_too_early(31 * kMilli);
    const unsigned second = rounds_until_next_stop(advice);
    EXPECT_GT(second, 4u);
    EXPECT_GT(advice.throttle, 0u);
    convergence.stopped_too_early(31 * kMilli);
    const unsigned third = rounds_until_next_stop(advice);
    EXPECT_GT(third, second);
    EXPECT_EQ(advice.throttle, 99u);
}

TEST(Convergence, AfterManyStopsInVainTheGoalGivesWay) {
    Convergence convergence({.downtime_ns = 20 * kMilli});
    convergence.set_fixed(11 * kMilli);
    for (int stop = 0; stop < 16; ++stop) {
        convergence.stopped_too_early(31 * kMilli);
    }
    EXPECT_EQ(convergence.goal_ns(), 20 * kMilli);
    for (int stop = 0; stop < 100; ++stop) {
        convergence.stopped_too_early(31 * kMilli);
    }
    EXPECT_EQ(convergence.goal_ns(), 40 * kMilli);
}

TEST(Convergence, AGoalBelowTheFixedPartIsNotWaitedForInVain) {
    Convergence convergence({.downtime_ns = 5 * kMilli});
    convergence.set_fixed(20 * kMilli);
    const auto advice = convergence.round(report(1000 * kMiB, kSecond, 4 * kMiB));  // 20 + 4
    EXPECT_EQ(advice.step, Convergence::Step::Stop);
    EXPECT_NE(advice.verdict.find("cannot be met"), std::string::npos) << advice.verdict;
    EXPECT_EQ(convergence.round(report(1000 * kMiB, kSecond, 6 * kMiB)).step,
              Convergence::Step::Copy);
}

TEST(Convergence, ASlowWriterConvergesInAGeometricRow) {
    Convergence convergence({.downtime_ns = 50 * kMilli, .may_throttle = false});
    Convergence::Advice last;
    const unsigned rounds =
        rounds_until_stop(convergence, 4096 * kMiB, 4096 * kMiB, 250e6, 1000e6, last);
    EXPECT_EQ(last.step, Convergence::Step::Stop);
    EXPECT_LE(rounds, 6u);  // 4 s, 1 s, 0.25 s, 63 ms, 16 ms
    EXPECT_EQ(last.throttle, 0u);
}

TEST(Convergence, ASmallWorkingSetNeedsNoSlowing) {
    Convergence convergence({.downtime_ns = 100 * kMilli});
    Convergence::Advice last;
    rounds_until_stop(convergence, 1024 * kMiB, 32 * kMiB, 5000e6, 1000e6, last);
    EXPECT_EQ(last.step, Convergence::Step::Stop);
    EXPECT_EQ(last.throttle, 0u);
}

TEST(Convergence, AFastWriterIsSlowedDownUntilItConverges) {
    Convergence convergence({.downtime_ns = 50 * kMilli});
    Convergence::Advice last;
    const unsigned rounds =
        rounds_until_stop(convergence, 1024 * kMiB, 1024 * kMiB, 3000e6, 1000e6, last);
    EXPECT_EQ(last.step, Convergence::Step::Stop);
    EXPECT_GE(last.throttle, 67u);
    EXPECT_LT(rounds, 40u);
}

TEST(Convergence, WithoutAnyMeansItSaysSo) {
    Convergence convergence({.downtime_ns = 50 * kMilli, .may_throttle = false});
    Convergence::Advice last;
    EXPECT_EQ(rounds_until_stop(convergence, 1024 * kMiB, 1024 * kMiB, 3000e6, 1000e6, last), 0u);
    EXPECT_EQ(last.remaining_ns, -1);
    EXPECT_NE(last.verdict.find("will not converge"), std::string::npos) << last.verdict;
}

TEST(Convergence, PostCopyComesWhenSlowingIsNotEnough) {
    Convergence convergence(
        {.downtime_ns = 50 * kMilli, .throttle_max = 30, .may_post_copy = true});
    Convergence::Advice last;
    EXPECT_NE(rounds_until_stop(convergence, 1024 * kMiB, 1024 * kMiB, 3000e6, 1000e6, last), 0u);
    EXPECT_EQ(last.step, Convergence::Step::PostCopy);
    EXPECT_EQ(last.throttle, 30u);
}

}  // namespace
}  // namespace kumoi::migration
