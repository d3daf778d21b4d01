#include "sim/planetlab/consolidator.h"

#include <algorithm>

namespace kumoi::sim {

namespace {

double power_at(const Host& host, double mips) {
    return host.type->power->at(mips / host.type->total_mips);
}

}  // namespace

Consolidator::Consolidator(Fleet& fleet, const LoadHistory& history, ConsolidatorOptions options,
                           Random& random)
    : fleet_(fleet),
      history_(history),
      options_(options),
      random_(random),
      plans_(fleet.hosts().size()),
      histories_(fleet.hosts().size()),
      machines_before_(fleet.hosts().size()) {}

void Consolidator::begin() {
    active_.clear();
    idle_.clear();
    overloaded_.clear();
    woken_.clear();
    idle_are_targets_ = true;
    for (size_t i = 0; i < plans_.size(); ++i) {
        const Host& host = fleet_.hosts()[i];
        HostPlan& plan = plans_[i];
        plan.excluded = plan.not_emptied = plan.changed = false;
        plan.in_map_order = plan.has_history = false;
        (host.used_mips != 0 ? active_ : idle_).push_back(static_cast<int>(i));
        recount(i);
        plan.used_mips = host.used_mips;
        plan.power = host.type->power->at(host.load());
    }
}

void Consolidator::remember(size_t index) {
    HostPlan& plan = plans_[index];
    if (!plan.changed) {
        plan.changed = true;
        machines_before_[index] = fleet_.hosts()[index].machines;
        changed_.push_back(index);
    }
}

void Consolidator::restore() {
    for (const size_t index : changed_) {
        fleet_.hosts()[index].machines = machines_before_[index];
    }
    changed_.clear();
}

void Consolidator::recount(size_t index) {
    HostPlan& plan = plans_[index];
    plan.requested_mips = 0;
    plan.ram_max_mib = 0;
    for (const int id : fleet_.hosts()[index].machines) {
        const Machine& machine = fleet_.machines()[static_cast<size_t>(id)];
        plan.requested_mips += machine.requested;
        plan.ram_max_mib = std::max(plan.ram_max_mib, machine.ram_mib);
    }
}

const HostHistory& Consolidator::history_of(size_t index) {
    HostPlan& plan = plans_[index];
    if (!plan.has_history) {
        histories_[index] = history_.host(fleet_, fleet_.hosts()[index]);
        plan.has_history = true;
    }
    return histories_[index];
}

bool Consolidator::is_overloaded(size_t index) {
    const HostPlan& plan = plans_[index];
    return sim::is_overloaded(options_.detector,
                              {plan.requested_mips, fleet_.hosts()[index].type->total_mips,
                               plan.ram_max_mib, history_of(index)});
}

bool Consolidator::is_overloaded_with(size_t index, int id) {
    const Machine& machine = fleet_.machines()[static_cast<size_t>(id)];
    const Host& host = fleet_.hosts()[index];
    const HostPlan& plan = plans_[index];
    HostHistory history = history_of(index);
    history_.add(fleet_, host, id, history);
    return sim::is_overloaded(options_.detector,
                              {plan.requested_mips + machine.requested, host.type->total_mips,
                               std::max(plan.ram_max_mib, machine.ram_mib), history});
}

void Consolidator::add(size_t index, int id) {
    remember(index);
    Host& host = fleet_.hosts()[index];
    HostPlan& plan = plans_[index];
    const Machine& machine = fleet_.machines()[static_cast<size_t>(id)];
    const double capped = std::min(machine.requested, host.type->processor_mips);
    host.free_mips = host.free_mips >= capped ? host.free_mips - capped : 0;
    if (plan.used_mips == 0) {
        woken_.push_back(static_cast<int>(index));
    }
    plan.used_mips += capped;
    plan.in_map_order = false;
    if (plan.has_history) {
        history_.add(fleet_, host, id, histories_[index]);
    }
    host.machines.push_back(id);
    host.note_size(host.machines.size());
    recount(index);
}

void Consolidator::remove(size_t index, int id) {
    remember(index);
    Host& host = fleet_.hosts()[index];
    host.machines.erase(std::find(host.machines.begin(), host.machines.end(), id));
    host.free_mips = fleet_.free_in_map_order(host);
    plans_[index].in_map_order = true;
    plans_[index].has_history = false;
    recount(index);
    plans_[index].used_mips = 0;
    for (const int other : host.machines) {
        plans_[index].used_mips += std::min(fleet_.machines()[static_cast<size_t>(other)].requested,
                                            host.type->processor_mips);
    }
}

bool Consolidator::fits(size_t index, const Machine& machine) const {
    const Host& host = fleet_.hosts()[index];
    return !plans_[index].excluded && host.type->processor_mips >= machine.requested &&
           host.free_mips >= machine.requested;
}

// What the host draws before: CloudSim takes the power at the last sharing although it adds planned
// machines to the power after, and counts a host that is off as if it idled.
double Consolidator::power_before(size_t index) const {
    const HostPlan& plan = plans_[index];
    if (!options_.fixed) {
        return plan.power;
    }
    return plan.used_mips == 0 ? 0 : power_at(fleet_.hosts()[index], plan.used_mips);
}

void Consolidator::consider(size_t index, const Machine& machine) {
    Host& host = fleet_.hosts()[index];
    HostPlan& plan = plans_[index];
    if (!fits(index, machine)) {
        return;
    }
    if (plan.used_mips != 0) {  // trying the machine on the host sums its free MIPS up anew
        if (!plan.in_map_order) {
            host.free_mips = fleet_.free_in_map_order(host);
            plan.in_map_order = true;
        }
        host.note_size(host.machines.size() + 1);
    }
    candidates_.push_back({power_at(host, plan.used_mips + machine.requested) - power_before(index),
                           static_cast<int>(index)});
}

void Consolidator::gather_candidates(const Machine& machine) {
    candidates_.clear();
    for (const int index : active_) {
        consider(static_cast<size_t>(index), machine);
    }
    for (const int index : woken_) {
        consider(static_cast<size_t>(index), machine);
    }
    if (!idle_are_targets_) {
        return;
    }
    // Idle hosts of a type are all alike: the first is taken.
    const HostType* seen = nullptr;
    for (const int index : idle_) {
        const auto at = static_cast<size_t>(index);
        const HostType* type = fleet_.hosts()[at].type;
        if (plans_[at].used_mips != 0 || type == seen || !fits(at, machine)) {
            continue;
        }
        consider(at, machine);
        if (seen != nullptr) {
            break;
        }
        seen = type;
    }
}

// The detectors change nothing, so asking them in the order of the power gives what asking all of
// them first would give.
int Consolidator::find_host(int id) {
    gather_candidates(fleet_.machines()[static_cast<size_t>(id)]);
    while (!candidates_.empty()) {
        auto best = candidates_.begin();
        for (auto one = candidates_.begin(); one != candidates_.end(); ++one) {
            if (one->power_added < best->power_added ||
                (one->power_added == best->power_added && one->host < best->host)) {
                best = one;
            }
        }
        const auto at = static_cast<size_t>(best->host);
        if (plans_[at].used_mips == 0 || !is_overloaded_with(at, id)) {
            return best->host;
        }
        *best = candidates_.back();
        candidates_.pop_back();
    }
    return -1;
}

// A new machine asks for all of its processor; those placed before it hold theirs but ask for
// nothing yet, so the detectors see the new one alone.
int Consolidator::place_new(int id) {
    const Machine& machine = fleet_.machines()[static_cast<size_t>(id)];
    const HostHistory none{};
    int best = -1;
    double least = 0;
    for (size_t i = 0; i < fleet_.hosts().size(); ++i) {
        const Host& host = fleet_.hosts()[i];
        if (host.type->processor_mips < machine.mips || host.free_mips < machine.mips ||
            !fleet_.has_ram(host, machine)) {
            continue;
        }
        const double held = host.type->total_mips - host.free_mips;
        if (held != 0 && sim::is_overloaded(options_.detector, {machine.mips, host.type->total_mips,
                                                                machine.ram_mib, none})) {
            continue;
        }
        const double before = !options_.fixed ? host.type->power->at(0)
                              : held == 0     ? 0
                                              : power_at(host, held);
        const double added = power_at(host, held + machine.mips) - before;
        if (best < 0 || added < least) {
            best = static_cast<int>(i);
            least = added;
        }
    }
    return best;
}

void Consolidator::sort_by_request(std::vector<int>& machines) const {
    std::stable_sort(machines.begin(), machines.end(), [this](int one, int other) {
        return fleet_.machines()[static_cast<size_t>(one)].requested >
               fleet_.machines()[static_cast<size_t>(other)].requested;
    });
}

void Consolidator::empty_overloaded(std::vector<int>& leaving) {
    for (const int index : overloaded_) {
        const auto at = static_cast<size_t>(index);
        do {
            const std::vector<int>& machines = fleet_.hosts()[at].machines;
            if (machines.empty()) {
                break;
            }
            const int id =
                machines[select_machine(options_.selector, machines, fleet_, history_, random_)];
            leaving.push_back(id);
            remove(at, id);
        } while (is_overloaded(at));
    }
}

void Consolidator::relieve(std::vector<PlannedMove>& moves) {
    for (const int index : active_) {
        if (is_overloaded(static_cast<size_t>(index))) {
            overloaded_.push_back(index);
        }
    }
    std::vector<int> leaving;
    empty_overloaded(leaving);
    for (const int index : overloaded_) {
        plans_[static_cast<size_t>(index)].excluded = true;
        plans_[static_cast<size_t>(index)].not_emptied = true;
    }
    sort_by_request(leaving);
    for (const int id : leaving) {
        const int target = find_host(id);
        if (target >= 0) {
            add(static_cast<size_t>(target), id);
            moves.push_back({id, target});
            plans_[static_cast<size_t>(target)].not_emptied |= options_.fixed;
        }
    }
}

void Consolidator::empty_host(size_t index, std::vector<PlannedMove>& moves) {
    std::vector<int> machines = fleet_.hosts()[index].machines;
    sort_by_request(machines);
    std::vector<PlannedMove> planned;
    for (const int id : machines) {
        const int target = find_host(id);
        if (target < 0) {
            for (const PlannedMove& move : planned) {
                remove(static_cast<size_t>(move.target), move.machine);
            }
            return;
        }
        add(static_cast<size_t>(target), id);
        planned.push_back({id, target});
    }
    for (const PlannedMove& move : planned) {
        plans_[static_cast<size_t>(move.target)].not_emptied = true;
        moves.push_back(move);
    }
}

void Consolidator::empty_underloaded(std::vector<PlannedMove>& moves) {
    idle_are_targets_ = false;
    for (const int index : woken_) {
        plans_[static_cast<size_t>(index)].excluded = true;
    }
    std::vector<int> order;
    for (const int index : active_) {
        if (fleet_.hosts()[static_cast<size_t>(index)].load() < 1) {
            order.push_back(index);
        }
    }
    std::stable_sort(order.begin(), order.end(), [this](int one, int other) {
        return fleet_.hosts()[static_cast<size_t>(one)].load() <
               fleet_.hosts()[static_cast<size_t>(other)].load();
    });
    for (const int index : order) {
        HostPlan& plan = plans_[static_cast<size_t>(index)];
        if (plan.not_emptied || fleet_.hosts()[static_cast<size_t>(index)].machines.empty()) {
            continue;
        }
        plan.excluded = true;
        empty_host(static_cast<size_t>(index), moves);
    }
}

std::vector<PlannedMove> Consolidator::plan() {
    begin();
    std::vector<PlannedMove> moves;
    relieve(moves);
    empty_underloaded(moves);
    restore();
    return moves;
}

}  // namespace kumoi::sim
