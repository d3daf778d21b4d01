// What machines used at past samples, and the same summed up by host: what the detectors look at.
// Newest first, at most kHistoryMax samples. Single thread.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "sim/planetlab/fleet.h"

namespace kumoi::sim {

inline constexpr size_t kHistoryMax = 30;
using HostHistory = std::array<double, kHistoryMax>;  // share of the host's capacity, 0 to 1

class LoadHistory {
public:
    LoadHistory(size_t machines, size_t samples_max);

    // Adds what all machines use now.
    void record(const Fleet& fleet);
    size_t size() const { return size_ < kHistoryMax ? size_ : kHistoryMax; }
    // 0 to 1 of the machine's own processor.
    double machine(size_t machine, size_t age) const {
        return used_[machine * row_ + row_ - kHistoryMax - size_ + age];
    }
    // Adds a machine's part to a host's history.
    void add(const Fleet& fleet, const Host& host, int machine, HostHistory& history) const;
    HostHistory host(const Fleet& fleet, const Host& host) const;

private:
    // A row a machine, filled from its end, newest first; behind the oldest there are zeros.
    size_t row_;
    size_t size_ = 0;
    std::vector<double> used_;
};

}  // namespace kumoi::sim
