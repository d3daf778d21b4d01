#include "sim/planetlab/day.h"

#include <algorithm>
#include <cmath>

#include "sim/planetlab/service_level.h"

namespace kumoi::sim {

namespace {

constexpr double kFirstPass = 0.1;  // seconds: when the work is submitted
constexpr double kPassSeconds = 300;
constexpr double kDaySeconds = 86400;
constexpr double kMigrationMibPerSecond = 62.5;  // half of 1 Gbit/s, as CloudSim divides it
constexpr double kJoulesPerKwh = 3600.0 * 1000;

// lr and lrr differ only without the quirks.
DetectorOptions weighted(DetectorOptions detector, bool fixed) {
    detector.weighted = fixed;
    return detector;
}

class Day {
public:
    Day(const TraceDay& traces, const DayOptions& options)
        : options_(options),
          fleet_(traces, options.host_count),
          history_(traces.traces.size(), kSamplesPerDay),
          random_(options.seed, "planetlab"),
          consolidator_(fleet_, history_,
                        {weighted(options.detector, is_fixed()), options.selector, is_fixed()},
                        random_),
          service_(options.host_count) {}

    DayResult run();

private:
    struct Arrival {
        double seconds;
        PlannedMove move;
    };

    bool is_fixed() const { return options_.mode == ConsolidationMode::Fixed; }
    void place_all();
    int place(int machine);
    void update(double seconds);
    void add_energy(double seconds);
    void remove_ended();
    void start_migrations(double seconds);
    void finish_migrations(double until);
    void move_in(const PlannedMove& move);
    void leave(int machine);
    static void erase(std::vector<int>& list, int machine);

    DayOptions options_;
    Fleet fleet_;
    LoadHistory history_;
    SeededRandom random_;
    Consolidator consolidator_;
    ServiceLevel service_;
    DayResult result_;
    std::vector<Arrival> arrivals_;
    double updated_ = 0;
    double joules_ = 0;
};

void Day::erase(std::vector<int>& list, int machine) {
    list.erase(std::remove(list.begin(), list.end(), machine), list.end());
}

// Without consolidation: the first host with room (CloudSim's "simple" policy).
int Day::place(int id) {
    if (options_.power == PowerPolicy::Consolidate) {
        return consolidator_.place_new(id);
    }
    const Machine& machine = fleet_.machines()[static_cast<size_t>(id)];
    for (size_t i = 0; i < fleet_.hosts().size(); ++i) {
        const Host& host = fleet_.hosts()[i];
        if (host.type->processor_mips >= machine.requested && host.free_mips >= machine.requested &&
            fleet_.has_ram(host, machine)) {
            return static_cast<int>(i);
        }
    }
    return -1;
}

void Day::place_all() {
    result_.machines = fleet_.machines().size();
    for (size_t i = 0; i < fleet_.machines().size(); ++i) {
        Machine& machine = fleet_.machines()[i];
        machine.requested = machine.mips;  // a new machine asks for all of its processor
        machine.host = place(static_cast<int>(i));
        if (machine.host < 0) {
            ++result_.not_placed;
            continue;
        }
        Host& host = fleet_.hosts()[static_cast<size_t>(machine.host)];
        host.machines.push_back(static_cast<int>(i));
        host.note_size(host.machines.size());
        host.free_mips -= machine.requested;
    }
}

void Day::update(double seconds) {
    fleet_.request_at(seconds);
    for (size_t i = 0; i < fleet_.hosts().size(); ++i) {
        fleet_.share(i);
    }
    if (seconds > updated_) {
        add_energy(seconds - updated_);
    }
    if (!is_fixed()) {
        remove_ended();
    }
    service_.observe(fleet_, seconds);
    updated_ = seconds;
}

void Day::add_energy(double seconds) {
    for (const Host& host : fleet_.hosts()) {
        if (options_.power == PowerPolicy::None) {
            joules_ += host.type->power->maximum() * seconds;
        } else if (host.used_mips_before != 0) {
            const double from = host.type->power->at(host.load_before());
            const double to = host.type->power->at(host.load());
            joules_ += (from + (to - from) / 2) * seconds;
        }
    }
}

// A machine that asks for nothing is taken for one that has done its work.
void Day::remove_ended() {
    for (size_t i = 0; i < fleet_.machines().size(); ++i) {
        Machine& machine = fleet_.machines()[i];
        if (machine.host >= 0 && machine.requested == 0 && !machine.migrating) {
            leave(static_cast<int>(i));
            machine.host = -1;
        }
    }
}

void Day::leave(int id) {
    const Machine& machine = fleet_.machines()[static_cast<size_t>(id)];
    Host& host = fleet_.hosts()[static_cast<size_t>(machine.host)];
    erase(host.machines, id);
    host.free_mips = fleet_.free_in_map_order(host);
}

void Day::start_migrations(double seconds) {
    const std::vector<PlannedMove> moves = consolidator_.plan();
    std::vector<size_t> involved;
    for (const PlannedMove& move : moves) {
        Machine& machine = fleet_.machines()[static_cast<size_t>(move.machine)];
        Host& target = fleet_.hosts()[static_cast<size_t>(move.target)];
        machine.migrating = true;
        target.machines.push_back(move.machine);
        target.arriving.push_back(move.machine);
        involved.push_back(static_cast<size_t>(move.target));
        involved.push_back(static_cast<size_t>(machine.host));
        arrivals_.push_back({seconds + machine.ram_mib / kMigrationMibPerSecond, move});
    }
    result_.migrations += moves.size();
    std::sort(involved.begin(), involved.end());
    involved.erase(std::unique(involved.begin(), involved.end()), involved.end());
    for (const size_t host : involved) {
        fleet_.share(host);
    }
    std::stable_sort(arrivals_.begin(), arrivals_.end(), [](const auto& one, const auto& other) {
        return one.seconds < other.seconds;
    });
    service_.observe(fleet_, seconds);
}

void Day::move_in(const PlannedMove& move) {
    Machine& machine = fleet_.machines()[static_cast<size_t>(move.machine)];
    Host& target = fleet_.hosts()[static_cast<size_t>(move.target)];
    if (machine.host >= 0) {
        leave(move.machine);
    }
    erase(target.machines, move.machine);
    erase(target.arriving, move.machine);
    target.machines.push_back(move.machine);
    machine.host = move.target;
    machine.migrating = false;
}

void Day::finish_migrations(double until) {
    size_t next = 0;
    while (next < arrivals_.size() && arrivals_[next].seconds < until) {
        const double seconds = arrivals_[next].seconds;
        update(seconds);
        for (; next < arrivals_.size() && arrivals_[next].seconds == seconds; ++next) {
            move_in(arrivals_[next].move);
        }
        update(seconds);
    }
    arrivals_.erase(arrivals_.begin(), arrivals_.begin() + static_cast<std::ptrdiff_t>(next));
}

DayResult Day::run() {
    place_all();
    if (is_fixed()) {
        update(0);
    }
    for (double pass = kFirstPass + kPassSeconds; pass < kDaySeconds; pass += kPassSeconds) {
        finish_migrations(pass);
        update(pass);
        history_.record(fleet_);
        if (options_.power == PowerPolicy::Consolidate) {
            start_migrations(pass);
        }
    }
    finish_migrations(kDaySeconds);
    if (is_fixed()) {
        update(kDaySeconds);
    }
    service_.finish(result_);
    result_.energy_kwh = joules_ / kJoulesPerKwh;
    return result_;
}

}  // namespace

DayResult simulate_day(const TraceDay& day, const DayOptions& options) {
    return Day(day, options).run();
}

}  // namespace kumoi::sim
