// One simulated day of consolidation: five-minute passes, migrations between them, energy and
// service levels. Deterministic: the same traces, options and seed give the same result to the last
// bit. Single thread; several days may run in threads of their own.
//
// docs/reference/planetlab.md says what the two modes do, quirk by quirk.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/planetlab/consolidator.h"

namespace kumoi::sim {

enum class ConsolidationMode {
    CloudSim,  // as CloudSim 3.0.3, quirks included
    Fixed,     // without them
};

enum class PowerPolicy {
    Consolidate,  // migrations by detector and selector
    Dvfs,         // none; idle hosts draw nothing, busy ones by their load
    None,         // none; every host draws its maximum all the time ("npa")
};

struct DayOptions {
    size_t host_count = 800;
    PowerPolicy power = PowerPolicy::Consolidate;
    DetectorOptions detector;
    Selector selector = Selector::MinimumMigrationTime;
    ConsolidationMode mode = ConsolidationMode::CloudSim;
    uint64_t seed = 1;  // for the selector rs
};

// Shares are 0 to 1.
struct DayResult {
    size_t machines = 0;
    size_t not_placed = 0;
    double energy_kwh = 0;
    uint64_t migrations = 0;
    uint64_t host_shutdowns = 0;
    double pdm = 0;          // work lost while migrating, of all work asked for
    double slatah = 0;       // time of active hosts with less to give than was asked for
    double sla_overall = 0;  // work not done, of all asked for
    double sla_average = 0;  // mean of the shares missing where something was missing
    double slav() const { return pdm * slatah; }
    double esv() const { return energy_kwh * slav(); }
};

DayResult simulate_day(const TraceDay& day, const DayOptions& options);

}  // namespace kumoi::sim
