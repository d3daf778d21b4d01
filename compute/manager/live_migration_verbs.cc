// ComputeManager, part five: live migration; and deletes, which may find a server on its way.
#include "base/log.h"
#include "compute/manager/compute_manager.h"
#include "compute/manager/live_migration_records.h"
#include "compute/manager/live_migration_tasks.h"
#include "compute/manager/pending_answer.h"
#include "compute/manager/terminate_task.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kCallTimeoutMs = 1'800'000;  // Nova's long_rpc_timeout

}  // namespace

template <typename Value>
Result<Value> ComputeManager::ask(const VerbInfo& info, const RequestContext& context,
                                  const std::string& uuid,
                                  std::function<Result<Value>(const Operation&)> task) {
    PendingAnswer<Value> pending;
    TRY(queue_.submit(
        uuid, ServerQueue::Lane::Other,
        [this, &info, context, uuid, task = std::move(task), answer = pending.sender()]() mutable {
            run_verb(services_, info, context, uuid,
                     [&](const Operation& operation) -> Result<void> {
                         Result<Value> result = task(operation);
                         answer->set(result);
                         return result.ok() ? Result<void>() : Result<void>(result.error());
                     });
            answer.reset();
        }));
    return pending.wait(kCallTimeoutMs);
}

// Beside the server's queue: what is asked is about the work that holds it.
Result<void> ComputeManager::live_verb_now(const VerbInfo& info, const RequestContext& context,
                                           const std::string& uuid,
                                           const std::function<Result<void>()>& work) {
    Result<void> result;
    run_verb(services_, info, context, uuid, [&](const Operation&) {
        result = work();
        if (!result.ok()) {
            record_fault(services_, uuid, result.error());
        }
        return result;
    });
    return result;
}

// As in Nova the event is over when the server waits for its turn.
Result<void> ComputeManager::live_migration(LiveMigrationRequest request) {
    if (services_.live == nullptr) {
        return ComputeApi::live_migration(std::move(request));
    }
    const RequestContext context = request.context;
    const std::string uuid = request.uuid;
    return live_verb_now(verbs::kQueueLiveMigration, context, uuid, [&]() -> Result<void> {
        const auto migration = services_.live->live_migration(uuid);
        warn_unless_ok(services_.conductor.migration_save(uuid, "queued"),
                       "a live migration that waits was not recorded");
        return migrations_.enqueue(
            uuid, migration.ok() ? migration->id : 0,
            [this, request = std::move(request)]() -> Result<void> {
                return queue_.submit(request.uuid, ServerQueue::Lane::Other, [this, request] {
                    run_verb(services_, verbs::kLiveMigration, request.context, request.uuid,
                             [&](const Operation& operation) {
                                 return LiveMigrationTask(services_, operation).execute(request);
                             });
                    migrations_.finished(request.uuid);
                });
            });
    });
}

Result<void> ComputeManager::cancel_queued(const RequestContext& context, const std::string& uuid) {
    return queue_.submit(uuid, ServerQueue::Lane::Other, [this, context, uuid] {
        run_verb(services_, verbs::kLiveMigration, context, uuid, [&](const Operation& operation) {
            return LiveMigrationTask(services_, operation).cancel();
        });
    });
}

Result<void> ComputeManager::live_migration_abort(const RequestContext& context,
                                                  const std::string& uuid, int64_t migration_id) {
    if (services_.live == nullptr) {
        return ComputeApi::live_migration_abort(context, uuid, migration_id);
    }
    return live_verb_now(verbs::kAbortLiveMigration, context, uuid, [&]() -> Result<void> {
        services_.live->announce(context, uuid, LiveMigrationNews::Abort, true);
        const auto stage = TRY(migrations_.abort(uuid, migration_id));
        if (stage == LiveMigrations::Stage::Queued) {
            TRY(cancel_queued(context, uuid));
        } else if (stage == LiveMigrations::Stage::Running) {
            Instance instance;
            instance.uuid = uuid;
            TRY(services_.driver.abort_live_migration(instance));
        }
        services_.live->announce(context, uuid, LiveMigrationNews::Abort, false);
        return {};
    });
}

Result<void> ComputeManager::live_migration_force_complete(const RequestContext& context,
                                                           const std::string& uuid) {
    if (services_.live == nullptr) {
        return ComputeApi::live_migration_force_complete(context, uuid);
    }
    return live_verb_now(verbs::kForceLiveMigration, context, uuid, [&]() -> Result<void> {
        services_.live->announce(context, uuid, LiveMigrationNews::ForceComplete, true);
        Instance instance;
        instance.uuid = uuid;
        TRY(services_.driver.force_complete_live_migration(instance));
        services_.live->announce(context, uuid, LiveMigrationNews::ForceComplete, false);
        return {};
    });
}

Result<void> ComputeManager::rollback_live_migration_at_destination(const RequestContext& context,
                                                                    const std::string& uuid,
                                                                    bool destroy_disks,
                                                                    const LiveMigrateData& data) {
    if (services_.live == nullptr) {
        return ComputeApi::rollback_live_migration_at_destination(context, uuid, destroy_disks,
                                                                  data);
    }
    return submit(verbs::kRollbackLiveMigration, context, uuid,
                  [destroy_disks, data](auto& services, const auto& operation) {
                      return rollback_live_migration_task(services, operation, destroy_disks, data);
                  });
}

Result<LiveMigrateData> ComputeManager::check_can_live_migrate_destination(
    const LiveMigrationCheck& request) {
    if (services_.live == nullptr) {
        return ComputeApi::check_can_live_migrate_destination(request);
    }
    return ask<LiveMigrateData>(verbs::kCheckLiveDestination, request.context, request.uuid,
                                [this, request](const Operation& operation) {
                                    return check_live_destination_task(services_, operation,
                                                                       request);
                                });
}

Result<LiveMigrateData> ComputeManager::check_can_live_migrate_source(const RequestContext& context,
                                                                      const std::string& uuid,
                                                                      const LiveMigrateData& data) {
    if (services_.live == nullptr) {
        return ComputeApi::check_can_live_migrate_source(context, uuid, data);
    }
    return ask<LiveMigrateData>(verbs::kCheckLiveSource, context, uuid,
                                [this, data](const Operation& operation) {
                                    return check_live_source_task(services_, operation, data);
                                });
}

Result<LiveMigrateData> ComputeManager::pre_live_migration(const RequestContext& context,
                                                           const std::string& uuid,
                                                           const std::string& disks,
                                                           const LiveMigrateData& data) {
    if (services_.live == nullptr) {
        return ComputeApi::pre_live_migration(context, uuid, disks, data);
    }
    return ask<LiveMigrateData>(
        verbs::kPreLiveMigration, context, uuid, [this, disks, data](const Operation& operation) {
            return PreLiveMigrationTask(services_, operation).execute(disks, data);
        });
}

Result<void> ComputeManager::post_live_migration_at_destination(const RequestContext& context,
                                                                const std::string& uuid,
                                                                bool block_migration) {
    if (services_.live == nullptr) {
        return ComputeApi::post_live_migration_at_destination(context, uuid, block_migration);
    }
    return ask<void>(verbs::kPostLiveMigration, context, uuid, [this](const Operation& operation) {
        return post_live_migration_task(services_, operation);
    });
}

// A delete does not wait for hours.
bool ComputeManager::abort_for_delete(const RequestContext& context, const std::string& uuid) {
    const auto migration = migrations_.migration_of(uuid);
    if (!migration) {
        return migrations_.is_undecided(uuid);
    }
    const auto stage = migrations_.abort(uuid, *migration);
    if (stage.ok() && *stage == LiveMigrations::Stage::Queued) {
        warn_unless_ok(cancel_queued(context, uuid), "a live migration that waits goes on");
    } else if (stage.ok() && *stage == LiveMigrations::Stage::Running) {
        Instance instance;
        instance.uuid = uuid;
        warn_unless_ok(services_.driver.abort_live_migration(instance),
                       "a server is deleted when its live migration has ended");
    }
    return true;
}

Result<void> ComputeManager::terminate_instance(const RequestContext& context,
                                                const std::string& uuid) {
    if (services_.live == nullptr) {
        return submit(verbs::kTerminate, context, uuid, [](auto& services, const auto& operation) {
            return TerminateTask(services, operation).execute();
        });
    }
    const bool migrates = abort_for_delete(context, uuid);
    return submit(verbs::kTerminate, context, uuid,
                  [migrates](auto& services, const auto& operation) {
                      return terminate_where_it_is(services, operation, migrates);
                  });
}

}  // namespace kumoi::compute
