#include "migration/policy/forecast.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace kumoi::migration {

namespace {

constexpr double kNanos = 1e9;
constexpr double kMiB = 1 << 20;
constexpr unsigned kRoundsMax = 64;
constexpr unsigned kThrottleStep = 5;

int64_t transfer_ns(uint64_t bytes, uint64_t bandwidth) {
    const double ns = static_cast<double>(bytes) * kNanos / static_cast<double>(bandwidth);
    return static_cast<int64_t>(std::min(ns, 1e17));
}

// The rounds until the guest may be stopped; nothing when they do not get there.
std::optional<Forecast> play(const WriteSample& sample, const ForecastQuestion& question,
                             unsigned throttle) {
    Forecast result;
    result.throttle = throttle;
    uint64_t left = question.memory;
    for (result.rounds = 1; result.rounds <= kRoundsMax; ++result.rounds) {
        const int64_t took = transfer_ns(left, question.bandwidth);
        result.total_ns += took;
        result.bytes += left;
        const uint64_t next = std::min(written_within(sample, took, throttle), question.memory);
        result.downtime_ns = question.fixed_ns + transfer_ns(next, question.bandwidth);
        if (result.rounds == 1) {
            result.post_copy_ns = transfer_ns(next, question.bandwidth);
        }
        if (result.downtime_ns <= question.downtime_ns) {
            result.converges = true;
            result.total_ns += result.downtime_ns;
            result.bytes += next;
            return result;
        }
        if (result.rounds > 1 && next >= left) {
            return std::nullopt;
        }
        left = next;
    }
    return std::nullopt;
}

double seconds(int64_t ns) {
    return static_cast<double>(ns) / kNanos;
}

std::string words(const Forecast& result, const WriteSample& sample,
                  const ForecastQuestion& question) {
    if (result.converges) {
        std::string text =
            fmt::format("takes about {:.1f} s in {} rounds, the guest stands still for {:.0f} ms",
                        seconds(result.total_ns), result.rounds, seconds(result.downtime_ns) * 1e3);
        if (result.throttle != 0) {
            text += fmt::format("; for that its vCPUs lose {} % of their time", result.throttle);
        }
        return text;
    }
    const double rate =
        sample.period_ns == 0 ? 0 : static_cast<double>(sample.once) / seconds(sample.period_ns);
    std::string text =
        fmt::format("will not converge: the guest writes {:.0f} MiB/s, the link gives {:.0f}",
                    rate / kMiB, static_cast<double>(question.bandwidth) / kMiB);
    if (question.fixed_ns > question.downtime_ns) {
        text += fmt::format("; the goal of {:.0f} ms is below the {:.0f} of any switch",
                            seconds(question.downtime_ns) * 1e3, seconds(question.fixed_ns) * 1e3);
    }
    return text + fmt::format("; post-copy would end it, with pages missing for about {:.1f} s",
                              seconds(result.post_copy_ns));
}

}  // namespace

uint64_t written_within(const WriteSample& sample, int64_t ns, unsigned throttle) {
    if (sample.once == 0 || sample.period_ns <= 0 || ns <= 0) {
        return 0;
    }
    const double share = (100.0 - std::min(throttle, 99u)) / 100.0;
    const double periods = static_cast<double>(ns) * share / static_cast<double>(sample.period_ns);
    const double once = static_cast<double>(sample.once);
    // Of what is untouched after a period the next one leaves the same part: w(2)/w(1) = 1 + x.
    const double x = std::clamp(static_cast<double>(sample.twice) / once - 1, 0.0, 1.0);
    constexpr double kSteady = 0.99;
    const double written = x >= kSteady ? once * periods
                           : x <= 0     ? once * std::min(periods, 1.0)
                                        : once / (1 - x) * (1 - std::pow(x, periods));
    return static_cast<uint64_t>(std::min(written, 1e18));
}

Forecast forecast(const WriteSample& sample, const ForecastQuestion& question) {
    std::optional<Forecast> result = play(sample, question, 0);
    for (unsigned throttle = kThrottleStep; !result && throttle <= question.throttle_max;
         throttle += kThrottleStep) {
        result = play(sample, question, throttle);
    }
    if (!result) {
        result.emplace();
        const int64_t first = transfer_ns(question.memory, question.bandwidth);
        const uint64_t next = std::min(written_within(sample, first), question.memory);
        result->rounds = 1;
        result->total_ns = first + question.fixed_ns;
        result->downtime_ns = question.fixed_ns;
        result->bytes = question.memory + next;
        result->post_copy_ns = transfer_ns(next, question.bandwidth);
    }
    result->verdict = words(*result, sample, question);
    return *result;
}

}  // namespace kumoi::migration
