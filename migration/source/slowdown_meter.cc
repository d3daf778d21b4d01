#include "migration/source/slowdown_meter.h"

#include <algorithm>

namespace kumoi::migration {

void SlowdownMeter::begin(int64_t now, int64_t rested_ns) {
    *this = {};
    begun_ns_ = now;
    rested_ns_ = rested_ns;
}

void SlowdownMeter::stopped(int64_t now) {
    stopped_ns_ = now;
}

void SlowdownMeter::goes_on(int64_t now, unsigned vcpus) {
    if (stopped_ns_ != 0 && !ended_) {
        stops_ns_ += (now - stopped_ns_) * vcpus;
    }
    stopped_ns_ = 0;
}

void SlowdownMeter::end(int64_t now, int64_t rested_ns, unsigned vcpus) {
    if (!ended_) {
        last_ = figures(now, rested_ns, vcpus);
        ended_ = true;
    }
}

SlowdownMeter::Figures SlowdownMeter::figures(int64_t now, int64_t rested_ns,
                                              unsigned vcpus) const {
    if (ended_) {
        return last_;
    }
    const int64_t until = stopped_ns_ == 0 ? now : stopped_ns_;
    Figures figures;
    figures.lost_ns = stops_ns_ + rested_ns - rested_ns_;
    const int64_t could = (until - begun_ns_) * static_cast<int64_t>(std::max(vcpus, 1u));
    if (could > 0) {
        figures.percent = std::min(
            100.0, 100.0 * static_cast<double>(figures.lost_ns) / static_cast<double>(could));
    }
    return figures;
}

}  // namespace kumoi::migration
