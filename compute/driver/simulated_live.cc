// SimulatedDriver, part three: live migration. A guest's memory is a number that shrinks by the
// bandwidth and grows by what the guest writes; when the rest fits the downtime it has moved. The
// destination makes the guest from its record: nothing but that is carried.
#include <algorithm>

#include "compute/driver/live_migration.h"
#include "compute/driver/simulated_driver.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr char kFormat[] = "kumoi-simulated-1";
constexpr int64_t kTickMs = 50;
constexpr int64_t kProgressMs = 1000;
constexpr int64_t kMib = 1 << 20;
constexpr int64_t kMillion = 1'000'000;
constexpr int64_t kThrottleFirst = 20;  // percent, as QEMU's auto-converge
constexpr int64_t kThrottleStep = 10;
constexpr int64_t kThrottleMax = 99;

Error not_migrating(const Instance& instance) {
    return Error::conflict("Server {} is not being migrated by this host", instance.uuid)
        .with_fault("InvalidMigrationState");
}

int64_t disk_bytes(const Instance& instance, const LiveMigrationPlan& plan) {
    return plan.block_migration ? (instance.flavor.root_gb + instance.flavor.ephemeral_gb) << 30
                                : 0;
}

}  // namespace

// The copy as it is at one moment.
struct SimulatedDriver::Copy {
    const LiveMigrationOptions& options;
    int64_t bandwidth;  // bytes a second
    int64_t dirty_rate;
    LiveMigrationProgress state;
    int64_t elapsed_ms = 0;

    bool converges() const { return dirty_rate < bandwidth; }
    int64_t rest() const { return state.memory_remaining + state.disk_remaining; }

    void tick() {
        elapsed_ms += kTickMs;
        int64_t sent = bandwidth * kTickMs / 1000;
        const int64_t disk = std::min(sent, state.disk_remaining);
        state.disk_remaining -= disk;
        state.disk_processed += disk;
        sent -= disk;
        const int64_t memory = std::min(sent, state.memory_remaining);
        state.memory_processed += memory;
        state.memory_remaining = std::min(
            state.memory_remaining - memory + dirty_rate * kTickMs / 1000, state.memory_total);
    }
    void slow_down() {  // a step a second
        state.throttle_percent =
            state.throttle_percent == 0
                ? kThrottleFirst
                : std::min(state.throttle_percent + kThrottleStep, kThrottleMax);
        dirty_rate = state.dirty_rate_bytes_s * (100 - state.throttle_percent) / 100;
    }
    void judge() {
        state.bandwidth_bytes_s = bandwidth;
        state.expected_downtime_ms = rest() * 1000 / bandwidth;
        state.remaining_ms = converges() ? rest() * 1000 / (bandwidth - dirty_rate) : -1;
        state.verdict = converges()
                            ? "converges"
                            : fmt::format(
                                  "will not converge: the guest writes {} MiB/s and the link "
                                  "carries {}; force it, or slow the guest down",
                                  dirty_rate / kMib, bandwidth / kMib);
    }
};

Result<std::string> SimulatedDriver::live_migration_facts(const Instance& /*instance*/) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    return Json::object({{"format", kFormat}, {"local_gb", options_.local_gb}}).dump();
}

Result<LiveMigrationPlan> SimulatedDriver::check_live_migration(
    const Instance& instance, const LiveMigrationQuestion& question) {
    delay(options_.operation_delay_ms);
    std::vector<std::string> reasons;
    const auto facts = Json::parse(question.facts);
    if (!facts.ok() || facts->string_or("format") != kFormat) {
        reasons.emplace_back("the destination does not simulate its guests");
    } else if (facts->integer_or("local_gb") < instance.flavor.root_gb &&
               !question.disk_over_commit) {
        reasons.push_back(fmt::format("the destination has {} GiB of disk, the server {}",
                                      facts->integer_or("local_gb"), instance.flavor.root_gb));
    }
    {
        const std::lock_guard lock(mutex_);
        const auto guest = guests_.find(instance.uuid);
        if (guest == guests_.end() || (guest->second.power_state != power_states::kRunning &&
                                       guest->second.power_state != power_states::kPaused)) {
            reasons.emplace_back("its guest does not run");
        }
    }
    if (!reasons.empty()) {
        return migration_pre_check_error(reasons);
    }
    LiveMigrationPlan plan;
    plan.shared_instance_path = options_.shared_storage;
    plan.block_migration =
        question.block_migration.value_or(!question.is_volume_backed && !options_.shared_storage);
    if (plan.block_migration && options_.shared_storage) {
        return Error::conflict(
                   "{} is not on local storage: Block migration can not be used with "
                   "shared storage.",
                   instance.uuid)
            .with_fault("InvalidLocalStorage");
    }
    if (!plan.block_migration && !options_.shared_storage && !question.is_volume_backed) {
        return Error::conflict(
                   "{} is not on shared storage: Shared storage live-migration "
                   "requires either shared storage or boot-from-volume with no local "
                   "disks.",
                   instance.uuid)
            .with_fault("InvalidSharedStorage");
    }
    return plan;
}

Result<std::string> SimulatedDriver::live_migration_disks(const Instance& instance) {
    return Json::object({{"root_gb", instance.flavor.root_gb}}).dump();
}

Result<std::string> SimulatedDriver::pre_live_migration(const LiveMigrationArrival& arrival) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    if (guests_.contains(arrival.instance.uuid)) {
        return Error::conflict("Server {} exists on this host already", arrival.instance.uuid)
            .with_fault("InstanceExists");
    }
    arriving_.insert(arrival.instance.uuid);
    return Json::object({{"format", kFormat}, {"migration", arrival.migration_uuid}}).dump();
}

LiveMigrationOutcome SimulatedDriver::live_migration(const Instance& instance,
                                                     const LiveMigrationDeparture& departure,
                                                     LiveMigrationObserver& observer) {
    {
        const std::lock_guard lock(mutex_);
        const auto guest = guests_.find(instance.uuid);
        if (guest == guests_.end()) {
            return LiveMigrationOutcome::stayed(not_migrating(instance));
        }
        leaving_[instance.uuid] = {};
    }
    Copy copy{departure.options,
              options_.migration_bandwidth_mib_s * kMib,
              options_.dirty_rate_mib_s * kMib,
              {}};
    if (departure.options.bandwidth_bytes_s > 0) {
        copy.bandwidth =
            std::min(copy.bandwidth, static_cast<int64_t>(departure.options.bandwidth_bytes_s));
    }
    copy.state.phase = "copying";
    copy.state.memory_total = copy.state.memory_remaining = instance.flavor.memory_mb * kMib;
    copy.state.disk_total = copy.state.disk_remaining = disk_bytes(instance, departure.plan);
    copy.state.dirty_rate_bytes_s = copy.dirty_rate;
    const bool fails =
        static_cast<double>(random_.below(kMillion)) < options_.migration_failure_rate * kMillion;
    auto outcome = run_copy(instance, copy, observer);
    if (outcome.kind == LiveMigrationOutcome::Kind::Completed && fails) {
        outcome = LiveMigrationOutcome::stayed(
            Error::unavailable("The simulated driver was told to fail {:.1f} % of live migrations",
                               options_.migration_failure_rate * 100));
    }
    if (outcome.kind == LiveMigrationOutcome::Kind::Completed) {
        const std::lock_guard lock(mutex_);
        guests_.erase(instance.uuid);
        gone_.insert(instance.uuid);
        leaving_.erase(instance.uuid);
    } else {
        const std::lock_guard lock(mutex_);
        leaving_.erase(instance.uuid);
        return outcome;
    }
    copy.state.phase = "switching";
    copy.state.memory_processed += copy.state.memory_remaining;
    copy.state.memory_remaining = copy.state.disk_remaining = 0;
    copy.state.downtime_ms = copy.state.expected_downtime_ms;
    copy.state.remaining_ms = 0;
    copy.state.verdict = "moved";
    observer.switched_over();
    observer.progress(copy.state);
    return outcome;
}

LiveMigrationOutcome SimulatedDriver::run_copy(const Instance& instance, Copy& copy,
                                               LiveMigrationObserver& observer) {
    copy.judge();
    observer.progress(copy.state);
    for (;;) {
        delay(kTickMs);
        copy.tick();
        copy.judge();
        const Asked asked = [&] {
            const std::lock_guard lock(mutex_);
            return leaving_[instance.uuid];
        }();
        if (asked.abort) {
            return LiveMigrationOutcome::aborted(
                Error::cancelled("The live migration of server {} was aborted", instance.uuid));
        }
        const bool fits = copy.state.expected_downtime_ms <= copy.options.downtime_ms;
        if (fits || asked.force) {
            delay(copy.state.expected_downtime_ms);
            return LiveMigrationOutcome::completed();
        }
        const int64_t timeout_ms = copy.options.completion_timeout_s * 1000;
        if (timeout_ms > 0 && copy.elapsed_ms >= timeout_ms) {
            if (copy.options.timeout_action == LiveMigrationOptions::TimeoutAction::ForceComplete) {
                delay(copy.state.expected_downtime_ms);
                return LiveMigrationOutcome::completed();
            }
            return LiveMigrationOutcome::aborted(Error::timeout(
                "The live migration of server {} took longer than {} s: {}", instance.uuid,
                copy.options.completion_timeout_s, copy.state.verdict));
        }
        if (copy.elapsed_ms % kProgressMs == 0) {
            if (copy.options.auto_converge && !copy.converges()) {
                copy.slow_down();
            }
            observer.progress(copy.state);
        }
    }
}

Result<void> SimulatedDriver::abort_live_migration(const Instance& instance) {
    const std::lock_guard lock(mutex_);
    const auto leaving = leaving_.find(instance.uuid);
    if (leaving == leaving_.end()) {
        return not_migrating(instance);
    }
    leaving->second.abort = true;
    return {};
}

Result<void> SimulatedDriver::force_complete_live_migration(const Instance& instance) {
    const std::lock_guard lock(mutex_);
    const auto leaving = leaving_.find(instance.uuid);
    if (leaving == leaving_.end()) {
        return not_migrating(instance);
    }
    leaving->second.force = true;
    return {};
}

Result<void> SimulatedDriver::finish_live_migration(const Instance& instance) {
    const std::lock_guard lock(mutex_);
    const auto [guest, is_new] = guests_.try_emplace(instance.uuid);
    if (is_new) {
        start(guest->second, instance, clock_.monotonic_ns());
        if (instance.vm_state == vm_states::kPaused) {
            guest->second.power_state = power_states::kPaused;
        }
    }
    arriving_.erase(instance.uuid);
    gone_.erase(instance.uuid);
    return {};
}

Result<void> SimulatedDriver::rollback_live_migration(const Instance& instance,
                                                      bool /*destroy_disks*/) {
    const std::lock_guard lock(mutex_);
    if (guests_.contains(instance.uuid)) {
        return Error::conflict("The guest of server {} is this host's", instance.uuid)
            .with_fault("InvalidMigrationState");
    }
    arriving_.erase(instance.uuid);
    return {};
}

Result<std::vector<std::string>> SimulatedDriver::list_arrival_uuids() {
    const std::lock_guard lock(mutex_);
    return std::vector<std::string>(arriving_.begin(), arriving_.end());
}

Result<GuestOwner> SimulatedDriver::live_migration_outcome(const Instance& instance) {
    const std::lock_guard lock(mutex_);
    if (guests_.contains(instance.uuid)) {
        return GuestOwner::Here;
    }
    if (arriving_.contains(instance.uuid)) {
        return GuestOwner::Incoming;
    }
    return gone_.contains(instance.uuid) ? GuestOwner::Gone : GuestOwner::Absent;
}

}  // namespace kumoi::compute
