#include "sim/planetlab/load_history.h"

namespace kumoi::sim {

LoadHistory::LoadHistory(size_t machines, size_t samples_max)
    : row_(samples_max + kHistoryMax), used_(machines * (samples_max + kHistoryMax)) {}

void LoadHistory::record(const Fleet& fleet) {
    ++size_;
    for (size_t i = 0; i < fleet.machines().size(); ++i) {
        used_[i * row_ + row_ - kHistoryMax - size_] = fleet.utilization(i);
    }
}

void LoadHistory::add(const Fleet& fleet, const Host& host, int machine,
                      HostHistory& history) const {
    const double mips = fleet.machines()[static_cast<size_t>(machine)].mips;
    const double* used = &used_[static_cast<size_t>(machine) * row_ + row_ - kHistoryMax - size_];
    for (size_t age = 0; age < kHistoryMax; ++age) {
        history[age] += used[age] * mips / host.type->total_mips;
    }
}

HostHistory LoadHistory::host(const Fleet& fleet, const Host& host) const {
    HostHistory history{};
    for (const int machine : host.machines) {
        add(fleet, host, machine, history);
    }
    return history;
}

}  // namespace kumoi::sim
