// Which machines move where: the consolidation of Beloglazov and Buyya 2012, section 5. Overloaded
// hosts give machines away until their detector is content; then the least loaded hosts are emptied
// one after the other, each wholly or not at all. A machine goes where it adds the least power
// ("power-aware best fit decreasing"). Pure: plans on what-if lists and leaves the fleet as it was,
// but for what a Java HashMap would remember (Host::map_buckets). Single thread.
#pragma once

#include <vector>

#include "base/random.h"
#include "sim/planetlab/detector.h"
#include "sim/planetlab/selector.h"

namespace kumoi::sim {

struct PlannedMove {
    int machine;
    int target;
};

struct ConsolidatorOptions {
    DetectorOptions detector;
    Selector selector = Selector::MinimumMigrationTime;
    // Without CloudSim's quirks: power is compared between like states, and a host that has just
    // been given machines is not emptied in the same pass.
    bool fixed = false;
};

class Consolidator {
public:
    Consolidator(Fleet& fleet, const LoadHistory& history, ConsolidatorOptions options,
                 Random& random);

    // Nothing may be migrating.
    std::vector<PlannedMove> plan();
    // The host for a new machine, which asks for all of its MIPS; -1: none has room.
    int place_new(int machine);

private:
    struct HostPlan {
        bool excluded = false;      // not a target
        bool not_emptied = false;   // not a source in the second part
        bool changed = false;       // its list of machines is not what it was
        bool in_map_order = false;  // free_mips was summed up in map order
        bool has_history = false;
        int ram_max_mib = 0;
        double requested_mips = 0;
        double used_mips = 0;  // with what is planned
        double power = 0;      // watts, as at the last sharing
    };
    struct Candidate {
        double power_added;
        int host;
    };

    void begin();
    void restore();
    void remember(size_t host);
    const HostHistory& history_of(size_t host);
    void recount(size_t host);
    bool is_overloaded(size_t host);
    bool is_overloaded_with(size_t host, int machine);
    bool fits(size_t host, const Machine& machine) const;
    void add(size_t host, int machine);
    void remove(size_t host, int machine);
    void empty_overloaded(std::vector<int>& leaving);
    void sort_by_request(std::vector<int>& machines) const;
    int find_host(int machine);
    double power_before(size_t host) const;
    void consider(size_t host, const Machine& machine);
    void gather_candidates(const Machine& machine);
    void relieve(std::vector<PlannedMove>& moves);
    void empty_underloaded(std::vector<PlannedMove>& moves);
    void empty_host(size_t host, std::vector<PlannedMove>& moves);

    Fleet& fleet_;
    const LoadHistory& history_;
    ConsolidatorOptions options_;
    Random& random_;
    std::vector<HostPlan> plans_;
    std::vector<HostHistory> histories_;             // where has_history
    std::vector<std::vector<int>> machines_before_;  // where changed
    bool idle_are_targets_ = true;
    std::vector<int> active_;  // hosts in use, by index
    std::vector<int> idle_;
    std::vector<int> woken_;  // idle ones that got a machine in this plan
    std::vector<int> overloaded_;
    std::vector<size_t> changed_;
    std::vector<Candidate> candidates_;
};

}  // namespace kumoi::sim
