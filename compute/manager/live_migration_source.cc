// LiveMigrationTask up to the point where it is known whose the guest is; what follows from that is
// in live_migration_ends.cc.
#include <algorithm>

#include "base/json.h"
#include "base/log.h"
#include "compute/manager/external_events.h"
#include "compute/manager/live_migration_fencing.h"
#include "compute/manager/live_migration_records.h"
#include "compute/manager/live_migration_tasks.h"
#include "compute/manager/live_migrations.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kRecordIntervalNs = 5 * kNanosPerSecond;  // Nova's
constexpr int64_t kPhaseIntervalNs = kNanosPerSecond;
constexpr std::string_view kDestination = "destination ";  // steps of the journal that say more
constexpr std::string_view kPlan = "plan ";
constexpr std::string_view kAttachments = "attachments ";

// Neutron says so of these as soon as they are wired, before the guest is there (Nova's
// get_live_migration_plug_time_events).
std::vector<std::string> plug_time_events(const Instance& instance) {
    std::vector<std::string> keys;
    for (const VifInfo& vif : instance.network_info) {
        const auto hybrid = vif.details.find("ovs_hybrid_plug");
        if (hybrid != vif.details.end() && (hybrid->second == "true" || hybrid->second == "True")) {
            keys.push_back("network-vif-plugged-" + vif.port_id);
        }
    }
    return keys;
}

Error aborted() {
    return Error::cancelled("The live migration was aborted by request");
}

std::string step_of_attachments(const std::vector<BlockDevice>& volumes) {
    Json ids = Json::object();
    for (const BlockDevice& volume : volumes) {
        ids.set(volume.volume_id, volume.attachment_id);
    }
    return std::string(kAttachments) + ids.dump();
}

}  // namespace

// Writes down how far it is, and lets the network follow the guest.
class LiveMigrationTask::Observer final : public LiveMigrationObserver {
public:
    explicit Observer(LiveMigrationTask& task) : task_(task) {}

    void progress(const LiveMigrationProgress& progress) override {
        NodeServices& services = task_.services_;
        if (services.migrations != nullptr) {
            services.migrations->set_progress(task_.operation_.uuid, progress);
        }
        const int64_t now = services.clock.monotonic_ns();
        const bool is_new = progress.phase != phase_;  // it may go to and fro many times a second
        const int64_t interval_ns = is_new ? kPhaseIntervalNs : kRecordIntervalNs;
        if (recorded_ns_ && now - *recorded_ns_ < interval_ns) {
            return;
        }
        if (is_new) {
            phase_ = progress.phase;
            log_info("compute", "live migration",
                     {{"phase", phase_}, {"verdict", progress.verdict}});
        }
        recorded_ns_ = now;
        const bool doubted = UnsettledOperations::is_in_doubt();
        warn_unless_ok(services.live->save_progress(task_.operation_.uuid, progress),
                       "how far a live migration is was not recorded");
        if (!doubted) {
            UnsettledOperations::forget_doubts();  // the next one says more
        }
    }
    void switched_over() override {
        task_.services_.journal.step(task_.operation_.journal_id, "switched_over");
        switched_over_ =
            task_.services_.network
                .activate_bindings(task_.operation_.context, task_.instance_, task_.destination_)
                .ok();
        asked_ = true;
    }
    bool asked() const { return asked_; }
    bool switched() const { return switched_over_; }

private:
    LiveMigrationTask& task_;
    std::string phase_;
    std::optional<int64_t> recorded_ns_;
    bool asked_ = false;
    bool switched_over_ = false;
};

Result<void> LiveMigrationTask::load(const std::string& destination) {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    auto migration = services_.live->live_migration(operation_.uuid);
    if (!migration.ok() && migration.error().code != ErrorCode::NotFound) {
        return std::move(migration).error();
    }
    if (migration.ok()) {
        migration_ = std::move(*migration);
    }
    destination_ = destination.empty() ? migration_.dest_compute : destination;
    data_.migration_uuid = migration_.uuid;
    return {};
}

Result<void> LiveMigrationTask::execute(const LiveMigrationRequest& request) {
    TRY(load(request.destination));
    data_ = request.data;
    data_.migration_uuid = migration_.uuid;
    if (is_over(migration_.status) || instance_.task_state != task_states::kMigrating ||
        instance_.host != services_.options.host) {
        return Error::conflict("Server {} is not to be migrated any more", operation_.uuid)
            .with_fault("UnexpectedTaskStateError");
    }
    const LiveMigrationPlan plan = data_.plan();
    services_.journal.step(operation_.journal_id, std::string(kDestination) + destination_);
    services_.journal.step(operation_.journal_id,
                           fmt::format("{}{} {}", kPlan, plan.block_migration ? "block" : "-",
                                       plan.shared_instance_path ? "shared" : "-"));
    auto prepared = prepare();
    const bool go_on =
        services_.migrations == nullptr ||
        services_.migrations->advance(operation_.uuid, LiveMigrations::Stage::Running);
    if (!prepared.ok() || !go_on) {
        const Error reason = go_on ? prepared.error() : aborted();
        rollback(reason, !go_on);
        return go_on ? Result<void>(reason) : Result<void>();
    }
    return move();
}

// Nova's order; the destination is told only when the records here are kept.
Result<void> LiveMigrationTask::prepare() {
    if (services_.migrations != nullptr &&
        !services_.migrations->advance(operation_.uuid, LiveMigrations::Stage::Preparing)) {
        return aborted();
    }
    TRY(services_.conductor.migration_save(operation_.uuid, "preparing"));
    volumes_ = TRY(volumes_of(services_, operation_.context, operation_.uuid));
    for (const BlockDevice& volume : volumes_) {
        old_attachment_ids_[volume.volume_id] = volume.attachment_id;
    }
    services_.journal.step(operation_.journal_id, step_of_attachments(volumes_));
    std::string disks;
    if (!data_.plan().shared_instance_path) {  // a server on a volume has files here, too
        disks = TRY(services_.driver.live_migration_disks(instance_));
    }
    const int64_t timeout_s = services_.options.vif_plugging_timeout_s;
    std::vector<std::string> keys;
    if (services_.events != nullptr && timeout_s > 0) {
        keys = plug_time_events(instance_);
    }
    std::optional<ExternalEvents::Expected> expected;
    if (!keys.empty()) {
        expected.emplace(services_.events->expect(operation_.uuid, keys));
    }
    services_.journal.step(operation_.journal_id, "pre");
    told_destination_ = true;
    data_ = TRY_CONTEXT(services_.live->pre_live_migration(operation_.context, operation_.uuid,
                                                           destination_, disks, data_),
                        "preparing host {}", destination_);
    if (expected && data_.wait_for_vif_plugged) {
        auto arrived = expected->wait(timeout_s * kNanosPerSecond);
        if (!arrived.ok() && services_.options.vif_plugging_is_fatal) {
            return Error(arrived.error()).with_fault("MigrationError");
        }
        warn_unless_ok(arrived, "a server moves before its network is ready there");
    }
    return {};
}

Result<void> LiveMigrationTask::move() {
    auto recorded = services_.conductor.migration_save(operation_.uuid, "running");
    if (!recorded.ok()) {
        rollback(recorded.error(), false);
        return recorded;
    }
    services_.journal.step(operation_.journal_id, "running");
    LiveMigrationDeparture departure;
    departure.migration_uuid = migration_.uuid;
    departure.arrival = data_.arrival;
    departure.plan = data_.plan();
    departure.options =
        services_.options.live_migration.for_server(instance_, departure.plan.block_migration);
    Observer observer(*this);
    const auto outcome = services_.driver.live_migration(instance_, departure, observer);
    switched_over_ = observer.asked();
    return end(outcome, observer.switched());
}

Result<void> LiveMigrationTask::follow() {
    if (services_.migrations != nullptr) {
        services_.migrations->adopt(operation_.uuid, migration_.id);
    }
    Observer observer(*this);
    const auto outcome = services_.driver.follow_live_migration(
        instance_,
        services_.options.live_migration.for_server(instance_, data_.plan().block_migration),
        observer);
    switched_over_ = switched_over_ || observer.asked();
    auto result = end(outcome, observer.switched());
    if (services_.migrations != nullptr) {
        services_.migrations->finished(operation_.uuid);
    }
    return result;
}

Result<void> LiveMigrationTask::end(const LiveMigrationOutcome& outcome, bool switched_over) {
    const Error reason = outcome.error.value_or(Error::unavailable(
        "The live migration of server {} ended without a reason", operation_.uuid));
    switch (outcome.kind) {
        case LiveMigrationOutcome::Kind::Completed: switched_over_ = switched_over; return post();
        case LiveMigrationOutcome::Kind::Stayed:
            rollback(reason, outcome.cancelled);
            return outcome.cancelled ? Result<void>() : Result<void>(reason);
        case LiveMigrationOutcome::Kind::Unknown:
            services_.journal.step(operation_.journal_id, "undecided");
            record_fault(services_, operation_.uuid, reason);
            return wait_undecided(reason);
    }
    return {};
}

// Neither forward nor back: asked again after the next sign of life that is answered.
Result<void> LiveMigrationTask::wait_undecided(const Error& reason) {
    log_warn("compute", "nobody can tell yet on which host the guest is; it is asked again",
             {{"destination", destination_}, {"why", reason.text()}});
    if (services_.migrations != nullptr) {
        services_.migrations->set_undecided(operation_.uuid, true);
    }
    UnsettledOperations::note_undecided();
    return reason;
}

void LiveMigrationTask::recall(const std::vector<std::string>& steps) {
    for (const std::string& step : steps) {
        const std::string_view text = step;
        if (text.starts_with(kDestination)) {
            destination_ = text.substr(kDestination.size());
        } else if (text.starts_with(kPlan)) {
            data_.block_migration = text.find("block") != std::string_view::npos;
            data_.is_shared_instance_path = text.find("shared") != std::string_view::npos;
        } else if (text == "pre") {
            told_destination_ = true;
        } else if (text == "running" || text == "switched_over") {
            switched_over_ = true;  // it may be
        } else if (text.starts_with(kAttachments)) {
            const auto ids = Json::parse(text.substr(kAttachments.size()));
            if (ids.ok() && ids->is_object()) {
                for (const auto& [volume, id] : ids->as_object()) {
                    old_attachment_ids_[volume] = id.is_string() ? id.as_string() : "";
                }
            }
        }
    }
}

Result<void> LiveMigrationTask::settle(const std::vector<std::string>& steps) {
    TRY(load({}));
    recall(steps);
    data_.old_attachment_ids = old_attachment_ids_;
    const auto owner = outcome_with_fencing(services_, instance_, destination_);
    if (!owner.ok()) {
        return wait_undecided(owner.error());
    }
    const auto reached = [&](std::string_view step) {
        return std::ranges::find(steps, step) != steps.end();
    };
    const bool left = instance_.host != services_.options.host;
    const Error reason = Error::unavailable("The host was restarted while the server left it")
                             .with_hint("Ask for it again.");
    switch (*owner) {
        case GuestOwner::Departing: return follow();
        case GuestOwner::Gone: return post();
        case GuestOwner::Absent:
        case GuestOwner::Here:
            if (reached("post") || (left && *owner == GuestOwner::Absent)) {
                return post();
            }
            if (left) {
                log_error("compute", "a guest is here whose record is another host's",
                          {{"host", instance_.host}});
                return {};
            }
            rollback(reason, reached("rollback cancelled"));
            return reason;
        case GuestOwner::Incoming:
        case GuestOwner::Undecided: break;
    }
    return wait_undecided(
        Error::unavailable("The guest of server {} is {}", operation_.uuid, to_string(*owner)));
}

Result<void> LiveMigrationTask::cancel() {
    TRY(load({}));
    services_.journal.step(operation_.journal_id, std::string(kDestination) + destination_);
    rollback(aborted(), true);
    return {};
}

}  // namespace kumoi::compute
