#include "api/cli/migration_forecast.h"

#include <algorithm>

#include "base/clock.h"

namespace kumoi::cli {
namespace {

constexpr int64_t kWindowNs = 10 * kNanosPerSecond;
// Before so much time nothing is said about never: the first round always looks well or badly.
constexpr int64_t kJudgedAfterNs = 5 * kNanosPerSecond;

int64_t sum(const Json& migration, const char* memory, const char* disk) {
    return std::max<int64_t>(0, migration.integer_or(memory)) +
           std::max<int64_t>(0, migration.integer_or(disk));
}

int64_t per_second(int64_t bytes, int64_t nanoseconds) {
    return static_cast<int64_t>(static_cast<double>(bytes) * kNanosPerSecond /
                                static_cast<double>(nanoseconds));
}

}  // namespace

std::string mebibytes(int64_t bytes) {
    const double value = static_cast<double>(bytes) / (1 << 20);
    return value < 10 ? fmt::format("{:.1f}", value) : fmt::format("{:.0f}", value);
}

void MigrationForecast::add(int64_t now_ns, const Json& migration) {
    status_ = migration.string_or("status");
    total_ = sum(migration, "memory_total_bytes", "disk_total_bytes");
    if (total_ == 0) {
        return;  // nothing is counted yet: zeros would look like a start
    }
    const Sample sample{now_ns, sum(migration, "memory_processed_bytes", "disk_processed_bytes"),
                        sum(migration, "memory_remaining_bytes", "disk_remaining_bytes")};
    if (!samples_.empty() && sample.processed == samples_.back().processed &&
        sample.remaining == samples_.back().remaining) {
        return;  // the source reports now and then; the same numbers again are no news
    }
    samples_.push_back(sample);
    while (samples_.size() > 2 && now_ns - samples_.front().at_ns > kWindowNs) {
        samples_.pop_front();
    }
}

MigrationForecast::State MigrationForecast::state() const {
    State state;
    state.status = status_;
    state.total = total_;
    if (samples_.empty()) {
        return state;
    }
    const Sample& last = samples_.back();
    const Sample& first = samples_.front();
    state.remaining = last.remaining;
    const int64_t span_ns = last.at_ns - first.at_ns;
    if (span_ns <= 0 || last.processed <= first.processed) {
        return state;
    }
    const int64_t bandwidth = per_second(last.processed - first.processed, span_ns);
    const int64_t growth = per_second(last.remaining - first.remaining, span_ns);
    const int64_t falling = -growth;
    state.bandwidth = bandwidth;
    state.dirty_rate = std::max<int64_t>(0, bandwidth - falling);
    if (falling > 0) {
        state.remaining_ms = static_cast<int64_t>(static_cast<double>(last.remaining) * 1000 /
                                                  static_cast<double>(falling));
    } else if (span_ns >= kJudgedAfterNs && last.remaining > 0) {
        state.never = true;
    }
    return state;
}

std::string MigrationForecast::line() const {
    const State now = state();
    std::string text = now.status.empty() ? "preparing" : now.status;
    if (now.total > 0) {
        text += fmt::format(", {} of {} MiB left", mebibytes(now.remaining), mebibytes(now.total));
    }
    if (now.bandwidth) {
        text += fmt::format(", {} MiB/s", mebibytes(*now.bandwidth));
    }
    if (now.dirty_rate && *now.dirty_rate > 0) {
        text += fmt::format(", guest writes {} MiB/s", mebibytes(*now.dirty_rate));
    }
    if (now.remaining_ms) {
        text += fmt::format(", {} s to go", (*now.remaining_ms + 999) / 1000);
    } else if (now.never) {
        text += ", does not converge";
    }
    return text;
}

std::string MigrationForecast::verdict() const {
    const State now = state();
    if (!now.never || !now.bandwidth || !now.dirty_rate) {
        return {};
    }
    return fmt::format(
        "It will not end by itself: the guest writes {} MiB/s and {} MiB/s go over. End it with a "
        "longer pause of the guest (kumoi server migration force-complete), or give it up (kumoi "
        "server migration abort) and try again when the guest is quieter.",
        mebibytes(*now.dirty_rate), mebibytes(*now.bandwidth));
}

}  // namespace kumoi::cli
