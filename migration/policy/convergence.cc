#include "migration/policy/convergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace kumoi::migration {

namespace {

constexpr double kNanos = 1e9;
// Rounds this small say little about what the streams can carry.
constexpr uint64_t kTellingBytes = 4u << 20;
constexpr double kOldWeight = 0.5;  // of the estimate before, in the mean of telling rounds
constexpr double kShrink = 0.75;    // a round is progress when it leaves at most this of before
constexpr unsigned kStuckRounds = 2;
constexpr unsigned kThrottleFirst = 20;
constexpr unsigned kThrottleStep = 10;
// What was missing at a stop is forgotten by 1/8 a round, slower the oftener it was in vain.
constexpr int64_t kSpareRounds = 8;
constexpr unsigned kTooEarlyMax = 16;
// More stops in vain than that, and the goal gives way by a quarter with each, to its double.
constexpr unsigned kGiveWayMax = 4;

uint64_t per_second(uint64_t bytes, int64_t ns) {
    return ns <= 0 ? 0
                   : static_cast<uint64_t>(static_cast<double>(bytes) * kNanos /
                                           static_cast<double>(ns));
}

double millis(int64_t ns) {
    return static_cast<double>(ns) / 1e6;
}

double mib(uint64_t bytes) {
    return static_cast<double>(bytes) / (1 << 20);
}

}  // namespace

int64_t Convergence::goal_ns() const {
    const int64_t goal = std::max(goal_.downtime_ns, fixed_ns_ + fixed_ns_ / 4);
    const unsigned in_vain = too_early_ > kTooEarlyMax ? too_early_ - kTooEarlyMax : 0;
    return goal + goal / 4 * int64_t{std::min(in_vain, kGiveWayMax)};
}

int64_t Convergence::expected_downtime(uint64_t remaining) const {
    if (bandwidth_ == 0) {
        return remaining == 0 ? fixed_ns_ : INT64_MAX / 2;
    }
    const double transfer =
        static_cast<double>(remaining) * kNanos / static_cast<double>(bandwidth_);
    return fixed_ns_ + static_cast<int64_t>(std::min(transfer, 1e17));
}

void Convergence::measure(const RoundReport& report) {
    const uint64_t carried = per_second(report.carried, report.took_ns);
    if (bandwidth_ == 0) {
        bandwidth_ = carried;
    } else if (report.carried >= kTellingBytes) {
        bandwidth_ = static_cast<uint64_t>(kOldWeight * static_cast<double>(bandwidth_) +
                                           (1 - kOldWeight) * static_cast<double>(carried));
        bandwidth_ = std::min(bandwidth_, std::max<uint64_t>(carried, 1));
    }
    dirty_rate_ = per_second(report.remaining, report.since_ns);
    stuck_ = static_cast<double>(report.remaining) > kShrink * static_cast<double>(last_remaining_)
                 ? stuck_ + 1
                 : 0;
    last_remaining_ = report.remaining;
}

Convergence::Advice Convergence::round(const RoundReport& report) {
    measure(report);
    ++rounds_;
    Advice advice;
    advice.expected_downtime_ns = expected_downtime(report.remaining);
    advice.dirty_rate = dirty_rate_;
    advice.bandwidth = bandwidth_;
    if (advice.expected_downtime_ns + spare_ns_ <= goal_ns()) {
        advice.step = Step::Stop;
        advised_ns_ = advice.expected_downtime_ns;
        advice.remaining_ns = advice.expected_downtime_ns;
        advice.throttle = throttle_;
        if (too_early_ > kTooEarlyMax) {
            advice.verdict = "the goal gives way: the guest writes too much while it is stopped";
        } else if (goal_ns() > goal_.downtime_ns) {
            advice.verdict = fmt::format(
                "the goal of {:.0f} ms cannot be met: stopping, the state and the handover alone "
                "take some {:.0f} ms",
                millis(goal_.downtime_ns), millis(fixed_ns_));
        }
        return advice;
    }
    if (too_early_ != 0) {
        spare_ns_ -= spare_ns_ / (kSpareRounds * int64_t{std::min(too_early_, kTooEarlyMax)});
    }
    slow_down(advice);
    advice.throttle = throttle_;
    // Each round takes what the last one left, and leaves dirty/bandwidth of it (a geometric row).
    const double ratio =
        bandwidth_ == 0 ? 1 : static_cast<double>(dirty_rate_) / static_cast<double>(bandwidth_);
    advice.remaining_ns = -1;
    if (ratio < 1) {
        const double transfer = static_cast<double>(report.remaining) * kNanos /
                                static_cast<double>(std::max<uint64_t>(bandwidth_, 1));
        advice.remaining_ns = static_cast<int64_t>(std::min(transfer / (1 - ratio), 1e17));
    }
    advice.verdict = judge(advice);
    return advice;
}

void Convergence::stopped_too_early(int64_t expected_ns) {
    ++too_early_;
    spare_ns_ = std::max(spare_ns_, expected_ns - advised_ns_);
}

// First as much as the figures ask for, then more, step by step.
void Convergence::slow_down(Advice& advice) {
    if (stuck_ < kStuckRounds) {
        return;
    }
    stuck_ = 0;
    if (goal_.may_throttle && throttle_ < goal_.throttle_max) {
        const double wanted = dirty_rate_ == 0 ? 0
                                               : 100 * (1 - 0.5 * static_cast<double>(bandwidth_) /
                                                                static_cast<double>(dirty_rate_));
        const unsigned next = throttle_ == 0 ? kThrottleFirst : throttle_ + kThrottleStep;
        const unsigned by_figures =
            throttle_ == 0 ? static_cast<unsigned>(std::clamp(wanted, 0.0, 99.0)) : 0;
        throttle_ = std::min(std::max(next, by_figures), goal_.throttle_max);
    } else if (goal_.may_post_copy) {
        advice.step = Step::PostCopy;
    }
}

std::string Convergence::judge(const Advice& advice) const {
    if (advice.remaining_ns >= 0) {
        return "";
    }
    std::string verdict =
        fmt::format("will not converge so: the guest writes {:.0f} MiB/s, the link carries {:.0f}",
                    mib(dirty_rate_), mib(bandwidth_));
    if (throttle_ != 0 && goal_.limits_writers) {
        verdict += fmt::format("; its vCPUs may write {} % of that", 100 - throttle_);
    } else if (throttle_ != 0) {
        verdict += fmt::format("; its vCPUs are slowed down by {} %", throttle_);
    } else if (!goal_.may_throttle) {
        verdict += "; slowing it down is not allowed";
    }
    verdict += goal_.may_post_copy ? "; post-copy comes next"
                                   : "; a longer downtime or post-copy would end it";
    return verdict;
}

}  // namespace kumoi::migration
