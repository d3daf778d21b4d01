// Which machine leaves an overloaded host? Beloglazov and Buyya 2012, section 5.3: minimum
// migration time (mmt), maximum correlation (mc), random choice (rs), minimum utilization (mu).
// Single thread.
#pragma once

#include <vector>

#include "base/random.h"
#include "sim/planetlab/load_history.h"

namespace kumoi::sim {

enum class Selector {
    MinimumMigrationTime,
    MaximumCorrelation,
    RandomSelection,
    MinimumUtilization
};

// The place in `candidates` (machines, not empty) of the one to move; ties go to the first.
size_t select_machine(Selector selector, const std::vector<int>& candidates, const Fleet& fleet,
                      const LoadHistory& history, Random& random);

// How well a straight combination of the others explains row i (R squared), for each row of
// `rows`, all of one length. Empty where that cannot be told: as many rows as samples, or rows that
// depend on each other.
std::vector<double> multiple_correlations(const std::vector<std::vector<double>>& rows);

}  // namespace kumoi::sim
