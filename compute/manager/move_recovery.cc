#include "compute/manager/move_recovery.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/log.h"
#include "compute/manager/evacuate_task.h"
#include "compute/manager/move_tasks.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

using Function = Result<void> (*)(NodeServices& services, const Operation& operation);

struct Entry {
    VerbInfo info;
    Function continuation;
};

const std::array<Entry, 7>& entries() {
    static const std::array<Entry, 7> kEntries = {{
        {verbs::kPrepResize,
         [](NodeServices& services, const Operation& operation) {
             return PrepResizeTask(services, operation).give_up_after_restart();
         }},
        {verbs::kMoveAway,
         [](NodeServices& services, const Operation& operation) {
             return MoveAwayTask(services, operation).finish_after_restart();
         }},
        {verbs::kFinishResize,
         [](NodeServices& services, const Operation& operation) {
             return FinishResizeTask(services, operation).finish_after_restart();
         }},
        {verbs::kConfirmMove,
         [](NodeServices& services, const Operation& operation) {
             return confirm_move_task(services, operation, true);
         }},
        {verbs::kRevertMove, revert_move_task},
        {verbs::kFinishRevert, finish_revert_task},
        {verbs::kEvacuate, nullptr},  // needs its steps too
    }};
    return kEntries;
}

const Entry* find(std::string_view verb) {
    const auto& all = entries();
    const auto* const found =
        std::ranges::find_if(all, [&](const Entry& entry) { return entry.info.verb == verb; });
    return found == all.end() ? nullptr : found;
}

Result<void> remove_one(NodeServices& services, const EvacuatedServer& server) {
    Instance instance;
    instance.uuid = server.uuid;
    if (auto record = services.conductor.instance_get(server.uuid); record.ok()) {
        instance = std::move(*record);
    }
    // Not known for sure: the disks stay.
    const auto shared = server.host.empty()
                            ? Result<bool>(false)
                            : moves::shares_storage(services, instance, server.host);
    const bool keep_disks = !shared.ok() || *shared;
    log_warn("compute", "a server was evacuated while this node was down; what is here of it goes",
             {{"server", server.uuid}, {"now_on", server.host}, {"disks_kept", keep_disks}});
    TRY(services.driver.leave(instance, keep_disks));
    return unplug_all(services, instance);
}

}  // namespace

bool is_move_verb(std::string_view verb) {
    return find(verb) != nullptr;
}

void continue_move(NodeServices& services, const OpenOperation& open) {
    const Entry& entry = *find(open.verb);
    const Operation operation{open.context, open.instance_uuid, open.id};
    resume_verb(services, entry.info, operation, [&](const Operation& resumed) {
        if (entry.continuation != nullptr) {
            return entry.continuation(services, resumed);
        }
        const bool made_disks =
            std::ranges::find(open.steps, EvacuateTask::kMakesDisks) != open.steps.end();
        return EvacuateTask(services, resumed).give_up_after_restart(made_disks);
    });
}

bool is_moving(const Instance& instance) {
    static const std::set<std::string_view> kStates = {
        task_states::kResizePrep, task_states::kResizeMigrating, task_states::kResizeMigrated,
        task_states::kResizeFinish, task_states::kResizeReverting};
    return instance.task_state && kStates.contains(*instance.task_state);
}

// As Nova's _init_instance, and further: a cast that came and was lost with the daemon before the
// journal knew of it is asked for again. One that came twice finds the server taken.
void settle_move(NodeServices& services, const Instance& instance) {
    const RequestContext owner{"", instance.user_id, instance.project_id, false};
    if (instance.task_state == task_states::kResizeMigrated) {  // we are the destination
        warn_unless_ok(services.moves->cast(instance.uuid, MoveCast::ResizeInstance, {}),
                       "the source of a server was not asked for its disks again");
    } else if (instance.task_state == task_states::kResizeReverting) {
        const auto migration = services.moves->migration(instance.uuid, true);
        if (migration.ok() && (migration->status == "reverted" || migration->status == "error")) {
            warn_unless_ok(services.moves->cast(instance.uuid, MoveCast::FinishRevertResize, {}),
                           "the source of a server was not asked to take it back");
            return;
        }
        run_verb(services, verbs::kRevertMove, owner, instance.uuid,
                 [&](const Operation& operation) { return revert_move_task(services, operation); });
    } else if (instance.task_state == task_states::kResizePrep ||
               instance.task_state == task_states::kResizeMigrating) {
        run_verb(services, verbs::kMoveAway, owner, instance.uuid, [&](const Operation& operation) {
            return MoveAwayTask(services, operation).finish_after_restart();
        });
    } else if (instance.task_state == task_states::kResizeFinish) {
        run_verb(services, verbs::kFinishResize, owner, instance.uuid,
                 [&](const Operation& operation) {
                     return FinishResizeTask(services, operation).finish_after_restart();
                 });
    }
}

namespace {

void settle_one_kept(NodeServices& services, const std::string& uuid) {
    const auto instance = services.conductor.instance_get(uuid);
    if (!instance.ok()) {
        if (is_instance_gone(instance.error())) {
            Instance gone;
            gone.uuid = uuid;
            warn_unless_ok(services.driver.confirm_migration(gone),
                           "what was kept of a deleted server was not removed");
        }
        return;
    }
    const auto migration = services.moves->migration(uuid, true);
    if (!migration.ok() || migration->source_compute != services.options.host) {
        return;
    }
    const RequestContext owner{"", instance->user_id, instance->project_id, false};
    const bool is_over = migration->status == "reverted" || migration->status == "error";
    if (migration->status == "confirming") {
        run_verb(services, verbs::kConfirmMove, owner, uuid, [&](const Operation& operation) {
            return confirm_move_task(services, operation, true);
        });
    } else if (instance->task_state == task_states::kResizeReverting && is_over) {
        run_verb(services, verbs::kFinishRevert, owner, uuid, [&](const Operation& operation) {
            return finish_revert_task(services, operation);
        });
    } else if (instance->task_state == task_states::kResizeMigrated) {
        run_verb(services, verbs::kMoveAway, owner, uuid, [&](const Operation& operation) {
            return MoveAwayTask(services, operation).finish_after_restart();
        });
    }
}

}  // namespace

void settle_kept(
    NodeServices& services, const std::set<std::string>& busy,
    const std::function<void(const std::string& uuid, std::function<void()>)>& submit) {
    const auto kept = services.driver.list_kept_uuids();
    if (!kept.ok()) {
        log_warn("compute", "disks that are kept of moved servers could not be listed",
                 {{"why", kept.error().text()}});
        return;
    }
    for (const std::string& uuid : *kept) {
        if (!busy.contains(uuid)) {
            submit(uuid, [&services, uuid] { settle_one_kept(services, uuid); });
        }
    }
}

std::set<std::string> remove_evacuated(NodeServices& services) {
    std::set<std::string> leaving;
    const auto local = services.driver.list_instance_uuids();
    const auto evacuated = services.moves->evacuated_from_here();
    if (!local.ok() || !evacuated.ok()) {
        log_warn("compute", "servers that were evacuated from here could not be listed",
                 {{"why", (local.ok() ? evacuated.error() : local.error()).text()}});
        return leaving;
    }
    const std::set<std::string> here(local->begin(), local->end());
    for (const EvacuatedServer& server : *evacuated) {
        const LogScope scope({{"server", server.uuid}});
        const bool is_ours = server.host == services.options.host;
        Instance instance;
        instance.uuid = server.uuid;
        if (is_ours && server.done) {  // it has come back since
            warn_unless_ok(services.moves->evacuation_completed(server),
                           "the end of an evacuation was not recorded");
            continue;
        }
        if (is_ours) {  // another host is at it just now
            warn_unless_ok(services.driver.leave(instance, true),
                           "the guest of a server that is being evacuated was not stopped");
            warn_unless_ok(disconnect_volumes(services, instance), "a volume's back end goes on");
            leaving.insert(server.uuid);
            continue;
        }
        auto removed = here.contains(server.uuid) ? remove_one(services, server) : Result<void>();
        if (removed.ok()) {  // they write to what another host serves now
            removed = disconnect_volumes(services, instance);
        }
        if (removed.ok()) {
            removed = services.moves->drop_allocation_here(server.uuid);
        }
        if (removed.ok()) {
            removed = services.moves->evacuation_completed(server);
        }
        warn_unless_ok(removed, "what is left of an evacuated server was not removed");
    }
    return leaving;
}

}  // namespace kumoi::compute
