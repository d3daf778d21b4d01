#include "compute/manager/live_migration_recovery.h"

#include <algorithm>
#include <array>

#include "base/log.h"
#include "compute/manager/live_migration_fencing.h"
#include "compute/manager/live_migration_records.h"
#include "compute/manager/live_migration_tasks.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr std::array<const VerbInfo*, 9> kVerbs = {
    &verbs::kQueueLiveMigration, &verbs::kLiveMigration,        &verbs::kAbortLiveMigration,
    &verbs::kForceLiveMigration, &verbs::kCheckLiveDestination, &verbs::kCheckLiveSource,
    &verbs::kPreLiveMigration,   &verbs::kPostLiveMigration,    &verbs::kRollbackLiveMigration};

const VerbInfo* find(std::string_view verb) {
    const auto* const found =
        std::ranges::find_if(kVerbs, [&](const VerbInfo* info) { return info->verb == verb; });
    return found == kVerbs.end() ? nullptr : *found;
}

RequestContext owner_of(const Instance& instance) {
    return {"", instance.user_id, instance.project_id, false};
}

// The guest is this host's, and the source has not said so yet.
bool is_to_be_finished(const NodeServices& services, const Instance& instance,
                       const Result<Migration>& migration) {
    const bool to_here = migration.ok() && migration->dest_compute == services.options.host;
    return instance.host == services.options.host || (to_here && !is_over(migration->status));
}

void settle_one(NodeServices& services, const std::string& uuid) {
    const LogScope scope({{"server", uuid}});
    const auto instance = services.conductor.instance_get(uuid);
    if (!instance.ok()) {
        return;  // remove_orphans() and the audit of deleted servers
    }
    const auto migration = services.live->live_migration(uuid);
    const std::string source = migration.ok() ? migration->source_compute : "";
    const auto owner = outcome_with_fencing(services, *instance, source);
    if (!owner.ok() || (!migration.ok() && migration.error().code != ErrorCode::NotFound)) {
        return;  // later
    }
    const RequestContext context = owner_of(*instance);
    if (*owner == GuestOwner::Here && is_to_be_finished(services, *instance, migration)) {
        run_verb(services, verbs::kPostLiveMigration, context, uuid,
                 [&](const Operation& operation) -> Result<void> {
                     TRY(post_live_migration_task(services, operation));
                     close_for_fenced_source(services, operation, source);
                     return {};
                 });
        return;
    }
    const bool awaited = migration.ok() && !is_over(migration->status) &&
                         migration->dest_compute == services.options.host;
    if (*owner == GuestOwner::Incoming && !awaited) {
        log_warn("compute", "what waited for a guest that does not come is removed");
        run_verb(services, verbs::kRollbackLiveMigration, context, uuid,
                 [&](const Operation& operation) {
                     // Disks are kept when in doubt: they may be the source's.
                     return rollback_live_migration_task(services, operation, false, {});
                 });
    }
}

}  // namespace

namespace {

// It waited for its turn, or its own entry in the journal says how far it came.
Result<void> settle_queued(NodeServices& services, const Operation& operation) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    const auto open = services.journal.open_operations();
    const bool has_begun = std::ranges::any_of(open, [&](const OpenOperation& other) {
        return other.verb == verbs::kLiveMigration.verb && other.instance_uuid == operation.uuid;
    });
    if (has_begun || !is_live_migrating(instance) || instance.host != services.options.host) {
        return {};
    }
    return LiveMigrationTask(services, operation).settle({});
}

}  // namespace

bool is_live_migration_verb(std::string_view verb) {
    return find(verb) != nullptr;
}

void continue_live_migration(NodeServices& services, const OpenOperation& open) {
    const VerbInfo& info = *find(open.verb);
    const Operation operation{open.context, open.instance_uuid, open.id};
    const auto reached = [&](std::string_view step) {
        return std::ranges::find(open.steps, step) != open.steps.end();
    };
    resume_verb(services, info, operation, [&](const Operation& resumed) -> Result<void> {
        if (info.verb == verbs::kLiveMigration.verb) {
            return LiveMigrationTask(services, resumed).settle(open.steps);
        }
        if (info.verb == verbs::kQueueLiveMigration.verb) {
            return settle_queued(services, resumed);
        }
        if (info.verb == verbs::kPreLiveMigration.verb) {
            return PreLiveMigrationTask(services, resumed).undo_after_restart(reached("shared"));
        }
        if (info.verb == verbs::kPostLiveMigration.verb) {
            return post_live_migration_task(services, resumed);
        }
        if (info.verb == verbs::kRollbackLiveMigration.verb) {
            return rollback_live_migration_task(services, resumed, reached("destroy"), {});
        }
        return Error::unavailable("The host was restarted while it was asked about a server")
            .with_hint("Ask for it again.");
    });
}

bool is_live_migrating(const Instance& instance) {
    return instance.task_state == task_states::kMigrating;
}

void settle_live_migration(NodeServices& services, const Instance& instance) {
    run_verb(services, verbs::kLiveMigration, owner_of(instance), instance.uuid,
             [&](const Operation& operation) {
                 return LiveMigrationTask(services, operation).settle({});
             });
}

Arrivals arrivals(NodeServices& services, const std::vector<Instance>& recorded) {
    Arrivals found;
    const auto waiting = services.driver.list_arrival_uuids();
    if (waiting.ok()) {
        found.all.insert(waiting->begin(), waiting->end());
    }
    const auto local = services.driver.list_instance_uuids();
    for (const std::string& uuid : local.ok() ? *local : std::vector<std::string>()) {
        if (std::ranges::find(recorded, uuid, &Instance::uuid) == recorded.end()) {
            found.all.insert(uuid);
        }
    }
    for (const std::string& uuid : found.all) {
        Instance guest;
        guest.uuid = uuid;
        const auto owner = services.driver.live_migration_outcome(guest);
        if (!owner.ok() || *owner == GuestOwner::Incoming || *owner == GuestOwner::Undecided) {
            found.awaited.insert(uuid);
        }
    }
    return found;
}

void settle_arrivals(NodeServices& services, const std::set<std::string>& uuids,
                     const std::function<void(const std::string&, std::function<void()>)>& submit) {
    for (const std::string& uuid : uuids) {
        submit(uuid, [&services, uuid] { settle_one(services, uuid); });
    }
}

}  // namespace kumoi::compute
