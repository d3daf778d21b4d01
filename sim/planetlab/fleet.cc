#include "sim/planetlab/fleet.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

namespace kumoi::sim {

namespace {

constexpr double kSampleSeconds = 300;
constexpr double kShareOut = 0.9;  // of a machine that migrates, at its source
constexpr double kShareIn = 0.1;   // and at its target

constexpr int kHostRamMib = 4096;

struct MachineType {
    double mips;
    int ram_mib;
};
constexpr std::array<MachineType, 4> kMachineTypes = {
    {{2500, 870}, {2000, 1740}, {1000, 1740}, {500, 613}}};

// The name CloudSim gives a machine ("2-17"), hashed as String.hashCode and spread as HashMap does.
uint32_t map_hash(size_t machine) {
    uint32_t hash = 0;
    for (const char letter : "2-" + std::to_string(machine)) {
        hash = hash * 31 + static_cast<uint32_t>(letter);
    }
    return hash ^ (hash >> 16);
}

// Calls `visit` for each machine of the host in the order of its HashMap: by bucket, within one by
// arrival.
template <class Visit>
void in_map_order(const Host& host, const std::vector<Machine>& machines, const Visit& visit) {
    std::array<std::pair<uint32_t, int>, 128> few;
    std::vector<std::pair<uint32_t, int>> many;
    auto* order = few.data();
    const size_t count = host.machines.size();
    if (count > few.size()) {
        many.resize(count);
        order = many.data();
    }
    const auto mask = static_cast<uint32_t>(host.map_buckets - 1);
    for (size_t i = 0; i < count; ++i) {  // sorted by insertion: stable, and the lists are short
        const int machine = host.machines[i];
        const uint32_t bucket = machines[static_cast<size_t>(machine)].hash & mask;
        size_t at = i;
        for (; at > 0 && order[at - 1].first > bucket; --at) {
            order[at] = order[at - 1];
        }
        order[at] = {bucket, machine};
    }
    for (size_t i = 0; i < count; ++i) {
        visit(order[i].second);
    }
}

}  // namespace

bool Host::is_arriving(int machine) const {
    return std::find(arriving.begin(), arriving.end(), machine) != arriving.end();
}

void Host::note_size(size_t machines_in_map) {
    while (machines_in_map > map_buckets * 3 / 4) {
        map_buckets *= 2;
    }
}

Fleet::Fleet(const TraceDay& day, size_t host_count)
    : types_{{&kProLiantMl110G4, 1860, 2 * 1860}, {&kProLiantMl110G5, 2660, 2 * 2660}},
      hosts_(host_count),
      machines_(day.traces.size()),
      utilization_(day.traces.size()),
      samples_((kSamplesPerDay + 1) * day.traces.size()) {
    for (size_t i = 0; i < hosts_.size(); ++i) {
        hosts_[i].type = &types_[i % types_.size()];
        hosts_[i].free_mips = hosts_[i].type->total_mips;
    }
    const size_t count = machines_.size();
    const size_t block = (count + kMachineTypes.size() - 1) / kMachineTypes.size();
    for (size_t i = 0; i < count; ++i) {
        const MachineType& type = kMachineTypes[i / block];
        machines_[i].mips = type.mips;
        machines_[i].ram_mib = type.ram_mib;
        machines_[i].hash = map_hash(i);
        for (size_t k = 0; k <= kSamplesPerDay; ++k) {
            const size_t sample = std::min(k, kSamplesPerDay - 1);
            samples_[k * count + i] = day.traces[i].percent[sample] / 100.0;
        }
    }
}

void Fleet::request_at(double seconds) {
    const double below = std::floor(seconds / kSampleSeconds);
    const double above = std::ceil(seconds / kSampleSeconds);
    const size_t count = machines_.size();
    const auto last = static_cast<double>(kSamplesPerDay);
    const double* low = &samples_[static_cast<size_t>(std::min(below, last)) * count];
    const double* high = &samples_[static_cast<size_t>(std::min(above, last)) * count];
    const double span = (above - below) * kSampleSeconds;
    const double into = seconds - below * kSampleSeconds;
    for (size_t i = 0; i < count; ++i) {
        utilization_[i] = span == 0 ? low[i] : low[i] + (high[i] - low[i]) / span * into;
        machines_[i].requested = utilization_[i] * machines_[i].mips;
    }
}

double Fleet::scaled_total(const Host& host) const {
    double total = 0;
    in_map_order(host, machines_, [&](int id) {
        const Machine& machine = machines_[static_cast<size_t>(id)];
        const double capped = std::min(machine.requested, host.type->processor_mips);
        total += host.is_arriving(id) ? capped * kShareIn : capped;
    });
    return total;
}

void Fleet::share(size_t index) {
    Host& host = hosts_[index];
    host.note_size(host.machines.size());
    host.used_mips_before = host.used_mips;
    double free = host.type->total_mips;
    bool enough = true;
    for (const int id : host.machines) {
        const Machine& machine = machines_[static_cast<size_t>(id)];
        const double capped = std::min(machine.requested, host.type->processor_mips);
        const double counted = host.is_arriving(id) ? capped * kShareIn : capped;
        enough = enough && free >= counted;
        free = enough ? free - counted : 0;
    }
    const double scale = enough ? 1 : host.type->total_mips / scaled_total(host);
    host.free_mips = free;
    host.used_mips = 0;
    host.requested_mips = 0;
    for (const int id : host.machines) {
        Machine& machine = machines_[static_cast<size_t>(id)];
        const bool arrives = host.is_arriving(id);
        const bool leaves = machine.migrating && !arrives;
        double got = std::min(machine.requested, host.type->processor_mips);
        got = arrives ? got * kShareIn : got;
        got = enough ? got : got * scale;
        got = leaves ? got * kShareOut : got;
        got = enough ? got : std::floor(got);
        if (!arrives) {
            machine.allocated = got;
        }
        // What migrating costs a machine is work of the host all the same.
        host.used_mips += leaves ? got / kShareOut : got;
        host.requested_mips += machine.requested;
    }
}

bool Fleet::has_ram(const Host& host, const Machine& machine) const {
    int used_mib = machine.ram_mib;
    for (const int id : host.machines) {
        used_mib += machines_[static_cast<size_t>(id)].ram_mib;
    }
    return used_mib <= kHostRamMib;
}

double Fleet::free_in_map_order(const Host& host) const {
    double free = host.type->total_mips;
    bool enough = true;
    in_map_order(host, machines_, [&](int id) {
        const double capped =
            std::min(machines_[static_cast<size_t>(id)].requested, host.type->processor_mips);
        const double counted = host.is_arriving(id) ? capped * kShareIn : capped;
        enough = enough && free >= counted;
        free = enough ? free - counted : 0;
    });
    return free;
}

}  // namespace kumoi::sim
