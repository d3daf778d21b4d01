// What was asked for and not given, integrated over a day: the metrics of Beloglazov and Buyya
// 2012, section 6.2. Single thread.
#pragma once

#include <vector>

#include "sim/planetlab/day.h"
#include "sim/planetlab/fleet.h"

namespace kumoi::sim {

class ServiceLevel {
public:
    explicit ServiceLevel(size_t hosts) : active_(hosts, true) {}

    // What holds from `seconds` on. Said again of the same instant, the last word counts.
    void observe(const Fleet& fleet, double seconds);
    void finish(DayResult& result);

private:
    struct MachineState {
        double allocated;
        double requested;
        bool migrating;
        bool present;
    };
    struct HostState {
        double used;
        double requested;
    };

    void close_interval(double until);
    void count_shutdowns();
    void take(const Fleet& fleet);

    double since_ = -1;
    std::vector<MachineState> machines_;
    std::vector<HostState> hosts_;
    std::vector<bool> active_;  // at the last instant that has passed
    double allocated_ = 0;
    double requested_ = 0;
    double lost_migrating_ = 0;
    double active_seconds_ = 0;
    double short_seconds_ = 0;
    double missing_sum_ = 0;
    uint64_t missing_count_ = 0;
    uint64_t shutdowns_ = 0;
};

}  // namespace kumoi::sim
