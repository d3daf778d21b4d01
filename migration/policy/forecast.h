// Forecast: what a live migration would take, before it is begun: from how much a guest writes in a
// while, without moving a byte. The scheduler asks the same of servers it thinks of moving.
//
// Of the writes two figures are known: the distinct bytes written within one period and within
// two. That is fitted by a working set W that is touched with time constant tau,
// w(t) = W (1 - e^(-t/tau)) (VMM study 3.9), or by a steady rate where it does not saturate. The
// rounds of a pre-copy are then played (Clark et al., NSDI '05): each sends what the last one left,
// and leaves w(its own length). Pure.
#pragma once

#include <cstdint>
#include <string>

namespace kumoi::migration {

struct WriteSample {
    int64_t period_ns = 0;
    uint64_t once = 0;   // distinct bytes written within one period
    uint64_t twice = 0;  // within two
};

struct ForecastQuestion {
    uint64_t memory = 0;        // bytes that are not zero
    uint64_t bandwidth = 0;     // bytes a second; must not be 0
    int64_t downtime_ns = 0;    // the goal
    int64_t fixed_ns = 0;       // of the downtime, whatever the memory
    unsigned throttle_max = 0;  // percent of the vCPUs' time that may be taken; 0: none
};

struct Forecast {
    bool converges = false;
    unsigned rounds = 0;
    unsigned throttle = 0;     // percent that it takes; 0: none
    int64_t total_ns = 0;      // until the guest runs there
    int64_t downtime_ns = 0;   // or of the post-copy's switch when it does not converge
    uint64_t bytes = 0;        // that go over
    int64_t post_copy_ns = 0;  // how long pages would be missing, were it switched after round one
    std::string verdict;       // plain words
};

// Distinct bytes written within `ns` by a guest with `throttle` percent of its time taken.
uint64_t written_within(const WriteSample& sample, int64_t ns, unsigned throttle = 0);
Forecast forecast(const WriteSample& sample, const ForecastQuestion& question);

}  // namespace kumoi::migration
