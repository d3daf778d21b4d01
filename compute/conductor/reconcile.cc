// Conductor, part four: what to do after the daemon died. The records are the journal: a server in
// BUILD or with a task_state was being worked on. Nodes recover first, from their own journals, and
// every server they report on is theirs. The rest never reached a node, so it is told again: all of
// a node's verbs may be repeated.
#include "base/log.h"
#include "base/uuid.h"
#include "compute/conductor/conductor.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

void Conductor::note_touched(const std::string& uuid) {
    const std::lock_guard lock(builds_mutex_);
    unfinished_.erase(uuid);
}

Result<void> Conductor::reconcile() {
    std::set<std::string> unfinished;
    {
        const std::lock_guard lock(builds_mutex_);
        unfinished.swap(unfinished_);
    }
    for (const std::string& uuid : unfinished) {
        const InstancePtr stored = instances_.find(uuid);
        if (stored == nullptr) {
            continue;
        }
        const auto outcome = resume_task(stored->instance);
        if (outcome.ok()) {
            log_info("conductor", "took up an interrupted task",
                     {{"server", uuid}, {"task", stored->instance.task_state.value_or("build")}});
        } else {
            log_error("conductor", "could not take up an interrupted task",
                      {{"server", uuid}, {"why", outcome.error().text()}});
        }
    }
    // Journal rows of builds that ended in the same instant the daemon died.
    return database_.write([&](SqlSession& sql) -> Result<void> {
        const auto rows = TRY(sql.query("SELECT instance_uuid FROM build_requests"));
        for (const SqlRow& row : rows) {
            const InstancePtr stored = instances_.find(row.text(0));
            if (stored == nullptr || stored->instance.vm_state != vm_states::kBuilding) {
                TRY(sql.run("DELETE FROM build_requests WHERE instance_uuid = ?", row.text(0)));
            }
        }
        return {};
    });
}

// Other nodes went on meanwhile, or find the request in the broker. Only what this process alone
// was at is over: looking for the destination of a live migration.
Result<void> Conductor::resume_remote_task(const RequestContext& context,
                                           const Instance& instance) {
    const auto migration = TRY(migrations_.find(instance.uuid, "accepted"));
    if (migration && migration->migration_type == "live-migration") {
        give_up_move(context, *migration, ServerVerb::LiveMigrate,
                     Error::unavailable("The control plane stopped before the migration began")
                         .with_hint("Ask for it again."));
    }
    return {};
}

Result<void> Conductor::resume_task(const Instance& instance) {
    const std::string& uuid = instance.uuid;
    RequestContext context{"req-" + Uuid::generate(random_).text(), instance.user_id,
                           instance.project_id, true};
    if (instance.task_state == task_states::kDeleting) {
        return delete_server(context, uuid, true);
    }
    if (moves_ != nullptr) {
        return resume_remote_task(context, instance);
    }
    if (instance.vm_state == vm_states::kBuilding) {
        const Error interrupted =
            Error::unavailable("The control plane stopped before the build began")
                .with_hint("Delete the server and create it again.");
        const auto inputs = build_inputs(uuid);
        // The administrator password was never written down; such a server is built without one.
        const auto cast = inputs.ok() && !instance.host.empty()
                              ? cast_build(context, instance, *inputs)
                              : Result<void>(interrupted);
        if (!cast.ok()) {
            give_up_build(context, uuid, cast.error());
        }
        return {};
    }
    ComputeApi* api = TRY(host_of(instance));
    const std::string task = instance.task_state.value_or("");
    if (task == task_states::kPoweringOff) {
        return api->stop_instance(context, uuid, true);
    }
    if (task == task_states::kPoweringOn) {
        return api->start_instance(context, uuid);
    }
    if (task == task_states::kPausing) {
        return api->pause_instance(context, uuid);
    }
    if (task == task_states::kUnpausing) {
        return api->unpause_instance(context, uuid);
    }
    if (task.starts_with("reboot")) {
        const bool hard = task.ends_with("hard");
        return api->reboot_instance(context, uuid, hard ? RebootType::Hard : RebootType::Soft);
    }
    // A task this release does not start: the record must not stay blocked by it.
    TRY(instances_.update(uuid, [](Instance& changed) -> Result<void> {
        changed.task_state = std::nullopt;
        changed.task_arguments = {};
        return {};
    }));
    return {};
}

}  // namespace kumoi::compute
