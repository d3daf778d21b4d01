#include "sim/planetlab/service_level.h"

namespace kumoi::sim {

void ServiceLevel::close_interval(double until) {
    const double seconds = until - since_;
    for (const MachineState& machine : machines_) {
        if (!machine.present) {
            continue;
        }
        allocated_ += machine.allocated * seconds;
        requested_ += machine.requested * seconds;
        if (machine.allocated < machine.requested) {
            const double missing = machine.requested - machine.allocated;
            missing_sum_ += missing / machine.requested;
            ++missing_count_;
            lost_migrating_ += machine.migrating ? missing * seconds : 0;
        }
    }
    for (const HostState& host : hosts_) {
        if (host.used > 0) {
            active_seconds_ += seconds;
            short_seconds_ += host.used < host.requested ? seconds : 0;
        }
    }
}

void ServiceLevel::count_shutdowns() {
    for (size_t i = 0; i < hosts_.size(); ++i) {
        const bool active = hosts_[i].used > 0;
        shutdowns_ += active_[i] && !active ? 1 : 0;
        active_[i] = active;
    }
}

void ServiceLevel::take(const Fleet& fleet) {
    machines_.resize(fleet.machines().size());
    hosts_.resize(fleet.hosts().size());
    for (size_t i = 0; i < machines_.size(); ++i) {
        const Machine& machine = fleet.machines()[i];
        machines_[i] = {machine.allocated, machine.requested, machine.migrating, machine.host >= 0};
    }
    for (size_t i = 0; i < hosts_.size(); ++i) {
        hosts_[i] = {fleet.hosts()[i].used_mips, fleet.hosts()[i].requested_mips};
    }
}

void ServiceLevel::observe(const Fleet& fleet, double seconds) {
    if (since_ >= 0 && seconds > since_) {
        close_interval(seconds);
        count_shutdowns();
    }
    since_ = seconds;
    take(fleet);
}

void ServiceLevel::finish(DayResult& result) {
    count_shutdowns();
    result.host_shutdowns = shutdowns_;
    result.pdm = requested_ > 0 ? lost_migrating_ / requested_ : 0;
    result.slatah = active_seconds_ > 0 ? short_seconds_ / active_seconds_ : 0;
    result.sla_overall = requested_ > 0 ? (requested_ - allocated_) / requested_ : 0;
    result.sla_average =
        missing_count_ > 0 ? missing_sum_ / static_cast<double>(missing_count_) : 0;
}

}  // namespace kumoi::sim
