// The hosts and machines of one simulated day, and how a host shares its processors among them.
//
// Structure of the experiment: A. Beloglazov, R. Buyya, "Optimal online deterministic algorithms
// and adaptive heuristics for energy and performance efficient dynamic consolidation of virtual
// machines in Cloud data centers", CCPE 24(13), 2012, section 7; as CloudSim 3.0.3 runs it.
// MIPS are what a processor can do in a second; a machine has one virtual processor. Single thread.
//
// Sums of floating-point numbers are made in the order in which CloudSim makes them, because its
// choices between equal hosts hang on the last bit: a host's machines in the order of their
// arrival, and, where CloudSim walks a Java HashMap, in that map's order (`map_order`).
#pragma once

#include <cstdint>
#include <vector>

#include "sim/planetlab/power_table.h"
#include "sim/planetlab/trace_file.h"

namespace kumoi::sim {

struct HostType {
    const PowerTable* power;
    double processor_mips;  // of one processor
    double total_mips;
};

struct Machine {
    double mips = 0;  // of its type
    int ram_mib = 0;
    uint32_t hash = 0;  // of its name in CloudSim, spread as java.util.HashMap does
    int host = -1;      // -1: ended, or not placed
    bool migrating = false;
    double requested = 0;  // MIPS now
    double allocated = 0;  // MIPS now, on its own host
};

struct Host {
    const HostType* type = nullptr;
    std::vector<int> machines;  // in order of arrival; those that migrate in are among them
    std::vector<int> arriving;  // those of them that migrate in
    double used_mips = 0;       // what its machines have, as it was last shared out
    double used_mips_before = 0;
    double requested_mips = 0;  // what they asked for then
    double free_mips = 0;
    size_t map_buckets = 16;  // of the HashMap; it only grows

    // 0 to 1; rounding a little above 1 counts as 1.
    double load() const { return clamp_load(used_mips / type->total_mips); }
    double load_before() const { return clamp_load(used_mips_before / type->total_mips); }
    bool is_arriving(int machine) const;
    void note_size(size_t machines_in_map);

private:
    static double clamp_load(double load) { return load > 1 && load < 1.01 ? 1 : load; }
};

class Fleet {
public:
    // Hosts alternate between the two types; machines are of four types in four equal blocks.
    Fleet(const TraceDay& day, size_t host_count);

    std::vector<Host>& hosts() { return hosts_; }
    std::vector<Machine>& machines() { return machines_; }
    const std::vector<Host>& hosts() const { return hosts_; }
    const std::vector<Machine>& machines() const { return machines_; }

    // Each machine asks for what its trace says at `seconds`: a straight line between two samples.
    void request_at(double seconds);
    // 0 to 1, as last asked for.
    double utilization(size_t machine) const { return utilization_[machine]; }
    // Shares a host's processors among its machines: everybody gets what it asks for, or, beyond
    // the capacity, all are scaled alike and rounded down to whole MIPS. A machine that migrates
    // out gets 90 %, on its target it counts with 10 %.
    void share(size_t host);
    bool has_ram(const Host& host, const Machine& machine) const;
    // What is free after all of a host's machines, summed up in map order.
    double free_in_map_order(const Host& host) const;

private:
    double scaled_total(const Host& host) const;

    std::vector<HostType> types_;
    std::vector<Host> hosts_;
    std::vector<Machine> machines_;
    std::vector<double> utilization_;
    // Sample k of machine m at [k * machines + m], 0 to 1; one more than the trace has: the last
    // is repeated.
    std::vector<double> samples_;
};

}  // namespace kumoi::sim
