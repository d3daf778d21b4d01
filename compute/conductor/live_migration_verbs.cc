// Conductor: live migration, as far as a control plane has a part in it: who may ask, where the
// server goes, and what is claimed and recorded meanwhile. The hosts do the rest among themselves
// and report it in the migration's record. What it claims on the destination follows from that
// record (Placement), so a migration that ended claims nothing, however it ended.
#include <algorithm>

#include <fmt/ranges.h>

#include "base/log.h"
#include "compute/conductor/conductor.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr char kMigrating[] = "migrating";
constexpr char kLiveMigration[] = "live-migration";

// Nova answers 400 to those who wait.
Error as_refusal(Error error) {
    if (error.code == ErrorCode::Exhausted || error.code == ErrorCode::Unavailable ||
        error.code == ErrorCode::Unsupported) {
        error.code = ErrorCode::InvalidArgument;
    }
    return error;
}

// What one host refuses another may accept.
bool is_for_another_host(const Error& error) {
    static const char* const kFaults[] = {
        "MigrationPreCheckError", "InvalidCPUInfo",
        "InvalidHypervisorType",  "DestinationHypervisorTooOld",
        "InvalidLocalStorage",    "InvalidSharedStorage",
        "HypervisorUnavailable",  "MigrationPreCheckClientException",
        "MessageUndeliverable",   "MessagingTimeout"};
    return std::ranges::any_of(kFaults, [&](const char* fault) { return error.fault == fault; });
}

Error wrong_task(const Instance& instance, const char* verb) {
    return Error::conflict("Cannot '{}' instance {} while it is in task_state {}", verb,
                           instance.uuid, instance.task_state.value_or("None"))
        .with_hint("Only a server that is being live-migrated (task_state migrating) can.")
        .with_fault("InstanceInvalidState");
}

Error wrong_status(const MigrationRecord& migration, const char* method) {
    return Error::invalid(
               "Migration {} state of instance {} is {}. Cannot {} while the migration is in this "
               "state.",
               migration.id, migration.instance_uuid, migration.status, method)
        .with_fault("InvalidMigrationState");
}

}  // namespace

Result<void> Conductor::live_migrate_server(const LiveMigrateServer& request) {
    const Instance instance = TRY(instances_.get(request.uuid))->instance;
    TRY(check_lock(request.context, instance));
    TRY(check_instance_state(instance, ServerVerb::LiveMigrate));
    if (request.host && !services_.find_node(*request.host)) {
        return Error::invalid("Compute host {} could not be found.", *request.host)
            .with_hint("openstack hypervisor list shows the hosts.")
            .with_fault("ComputeHostNotFound");
    }
    MigrationRecord migration = TRY(begin_live_migration(request));
    if (request.waits || !executor_) {
        const auto outcome = run_live_migration(request, migration);
        return request.waits ? outcome : Result<void>();
    }
    const auto queued = executor_([this, request, migration]() mutable {
        // Its outcome is in the records.
        const auto outcome = run_live_migration(request, migration);
        if (!outcome.ok()) {
            log_info("conductor", "a live migration was refused",
                     {{"server", request.uuid}, {"why", outcome.error().text()}});
        }
    });
    if (!queued.ok()) {
        give_up_move(request.context, migration, ServerVerb::LiveMigrate, queued.error());
    }
    return queued;
}

Result<MigrationRecord> Conductor::begin_live_migration(const LiveMigrateServer& request) {
    MigrationRecord migration;
    migration.instance_uuid = request.uuid;
    migration.migration_type = kLiveMigration;
    migration.status = "accepted";
    migration.user_id = request.context.user_id;
    migration.project_id = request.context.project_id;
    TRY(instances_.update(
        request.uuid,
        [&](Instance& instance) -> Result<void> {
            TRY(check_lock(request.context, instance));
            TRY(check_instance_state(instance, ServerVerb::LiveMigrate));
            TRY(host_of(instance));
            instance.task_state = kMigrating;
            instance.task_arguments = {};
            instance.task_arguments.old_vm_state = instance.vm_state;
            instance.progress = 0;
            migration.source_compute = instance.host;
            migration.source_node = instance.node;
            migration.old_flavor = migration.new_flavor =
                flavors_.number_of(instance.flavor.flavor_id);
            return {};
        },
        [&](SqlSession& sql) -> Result<void> {
            TRY(actions_.start(sql, request.context, request.uuid, "live-migration"));
            return migrations_.create(sql, migration);
        }));
    return migration;
}

Result<void> Conductor::run_live_migration(const LiveMigrateServer& request,
                                           MigrationRecord& migration) {
    const auto work = [&]() -> Result<void> {
        const Instance instance = TRY(instances_.get(request.uuid))->instance;
        const auto service = services_.find_service(instance.host, "nova-compute");
        if (!service || !service->up) {
            return Error::unavailable("Compute service of {} is unavailable at this time.",
                                      instance.host)
                .with_hint("A host that is down is left by evacuation (openstack server evacuate).")
                .with_fault("ComputeServiceUnavailable");
        }
        const Json migrate_data = TRY(find_destination(request, instance, migration));
        return moves_->live_migration(request.context, instance, migration, migrate_data);
    };
    const auto outcome = work();
    if (!outcome.ok()) {
        give_up_move(request.context, migration, ServerVerb::LiveMigrate, outcome.error());
        return as_refusal(outcome.error());
    }
    return {};
}

Result<Json> Conductor::find_destination(const LiveMigrateServer& request, const Instance& instance,
                                         MigrationRecord& migration) {
    if (request.host && *request.host == instance.host) {
        return Error::invalid("Unable to migrate instance ({}) to current host ({}).",
                              instance.uuid, instance.host)
            .with_fault("UnableToMigrateToSelf");
    }
    const auto group = server_groups_.group_of(instance.uuid);
    scheduler::RequestSpec spec = placement_.request_spec(instance, group ? group->uuid : "");
    spec.requested_host = request.host.value_or("");
    spec.ignored_hosts.insert(instance.host);
    std::vector<std::string> refusals;
    for (;;) {
        auto claimed = claim_destination(spec, migration);
        if (claimed.ok() && moves_ == nullptr) {
            claimed = Error::exhausted("No valid host was found. This node reaches no other one.")
                          .with_fault("NoValidHost");
        }
        if (!claimed.ok()) {
            Error none = std::move(claimed).error();
            if (!refusals.empty()) {
                none.message += fmt::format(" Refused by {}", fmt::join(refusals, "; "));
            }
            return none;
        }
        auto checked = moves_->check_can_live_migrate_destination(
            request.context, instance, migration, request.block_migration,
            request.disk_over_commit);
        if (checked.ok() || request.host || !is_for_another_host(checked.error())) {
            return checked;
        }
        refusals.push_back(migration.dest_compute + ": " + checked.error().message);
        spec.ignored_hosts.insert(migration.dest_compute);
    }
}

Result<void> Conductor::claim_destination(const scheduler::RequestSpec& spec,
                                          MigrationRecord& migration) {
    migration.dest_compute = migration.dest_node = migration.dest_host = "";
    TRY(migrations_.update(migration));  // what a host refused is no longer claimed there
    Placement::Session session(placement_);
    const PickedHost picked = TRY(session.pick(spec));
    const auto node = services_.find_node(picked.host);
    migration.dest_compute = picked.host;
    migration.dest_node = picked.node;
    migration.dest_host = node ? node->node.host_ip : "";
    return migrations_.update(migration);  // and now it is
}

void Conductor::give_up_move(const RequestContext& context, MigrationRecord migration,
                             ServerVerb verb, const Error& reason) {
    const std::string& uuid = migration.instance_uuid;
    migration.status = "error";
    const auto stored = instances_.update(
        uuid,
        [&](Instance& instance) -> Result<void> {
            if (instance.task_state != task_states::kDeleting) {
                instance.task_state = std::nullopt;
                instance.task_arguments = {};
            }
            instance.fault = Fault{500, reason.text(), reason.text(), clock_.wall_ns()};
            return {};
        },
        [&](SqlSession& sql) { return migrations_.update(sql, migration); });
    const auto logged = actions_.fail(context, uuid, event_of(verb), reason);
    if (!stored.ok() || !logged.ok()) {
        log_error("conductor", "could not record a failed move",
                  {{"server", uuid}, {"why", reason.message}});
    }
}

Result<MigrationRecord> Conductor::live_migration_of(const RequestContext& context,
                                                     const std::string& uuid, int64_t migration_id,
                                                     const char* verb) {
    const Instance instance = TRY(instances_.get(uuid))->instance;
    TRY(check_lock(context, instance));
    if (instance.task_state != kMigrating) {
        return wrong_task(instance, verb);
    }
    auto migration = TRY(migrations_.find(migration_id));
    if (!migration || migration->instance_uuid != uuid ||
        migration->migration_type != kLiveMigration) {
        return Error::not_found("Migration {} not found for instance {}", migration_id, uuid)
            .with_fault("MigrationNotFoundForInstance");
    }
    return std::move(*migration);
}

Result<void> Conductor::abort_live_migration(const RequestContext& context, const std::string& uuid,
                                             int64_t migration_id, bool queued_too) {
    const auto migration =
        TRY(live_migration_of(context, uuid, migration_id, "abort live migration"));
    const std::string& status = migration.status;
    const bool waits = status == "queued" || status == "preparing";
    if (moves_ == nullptr || !(status == "running" || (queued_too && waits))) {
        return wrong_status(migration, "abort live migration");
    }
    TRY(actions_.start(context, uuid, "live_migration_cancel"));
    return moves_->live_migration_abort(context, TRY(instances_.get(uuid))->instance, migration);
}

Result<void> Conductor::force_live_migration(const RequestContext& context, const std::string& uuid,
                                             int64_t migration_id) {
    const auto migration = TRY(live_migration_of(context, uuid, migration_id, "force_complete"));
    if (moves_ == nullptr || migration.status != "running") {
        return wrong_status(migration, "force complete");
    }
    TRY(actions_.start(context, uuid, "live_migration_force_complete"));
    return moves_->live_migration_force_complete(context, TRY(instances_.get(uuid))->instance,
                                                 migration);
}

}  // namespace kumoi::compute
