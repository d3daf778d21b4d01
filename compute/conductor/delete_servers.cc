// Conductor: deletes. At once, or, with reclaim_instance_interval, after a time in which the server
// can be restored.
#include "base/log.h"
#include "compute/conductor/conductor.h"
#include "compute/conductor/request_checks.h"
#include "compute/manager/shelve_task.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

Result<void> Conductor::delete_server(const RequestContext& context, const std::string& uuid,
                                      bool force) {
    if (!force && options_.reclaim_instance_interval_s > 0 && TRY(soft_delete(context, uuid))) {
        return {};
    }
    bool already_deleting = false;
    const InstancePtr stored = TRY(instances_.update(
        uuid,
        [&](Instance& instance) -> Result<void> {
            TRY(check_lock(context, instance));
            already_deleting = instance.task_state == task_states::kDeleting;
            instance.task_state = task_states::kDeleting;
            instance.task_arguments = {};
            instance.progress = 0;
            return {};
        },
        [&](SqlSession& sql) -> Result<void> {
            return already_deleting
                       ? Result<void>()
                       : actions_.start(sql, context, uuid, force ? "forceDelete" : "delete");
        }));
    const Instance& instance = stored->instance;
    forget_server(context, instance);
    ComputeApi* api = hosts_.find(instance.host);
    const auto service = services_.find_service(instance.host, "nova-compute");
    if (instance.host.empty() || api == nullptr || (service && !service->up)) {
        return local_delete(context, instance);
    }
    if (already_deleting && !force) {
        return {};
    }
    const auto outcome = api->terminate_instance(context, uuid);
    if (!outcome.ok()) {
        TRY(actions_.fail(context, uuid, "compute_terminate_instance", outcome.error()));
    }
    return outcome;
}

// The server runs nowhere, or its host cannot be asked now: the records go, and with them the
// claim. A guest that still runs on that host is removed by the host's own recovery, which no
// longer finds its record.
Result<void> Conductor::local_delete(const RequestContext& context, const Instance& instance) {
    const std::string event = "compute_terminate_instance";
    TRY(actions_.event_start(context, instance.uuid, event, instance.host));
    TRY(networks_.deallocate_for_instance(context, instance));
    TRY(instance_destroy(instance.uuid));
    log_info("conductor", "deleted without its host",
             {{"server", instance.uuid}, {"host", instance.host}});
    return actions_.event_finish(context, instance.uuid, event, std::nullopt);
}

// False: the server is not one that can be kept, so it is deleted at once, as in Nova.
Result<bool> Conductor::soft_delete(const RequestContext& context, const std::string& uuid) {
    const Instance instance = TRY(instances_.get(uuid))->instance;
    const bool busy = instance.task_state == task_states::kSoftDeleting ||
                      instance.task_state == task_states::kDeleting;
    if (instance.vm_state == vm_states::kSoftDeleted || busy) {
        TRY(check_lock(context, instance));
        return true;
    }
    if (instance.launched_ns == 0 || instance.host.empty()) {
        return false;
    }
    TRY(run_verb(context, uuid,
                 VerbCall{ServerVerb::Delete, task_states::kSoftDeleting,
                          [&](ComputeApi& api) { return api.soft_delete_instance(context, uuid); },
                          [this](Instance& changed) -> Result<void> {
                              changed.deleted_ns = clock_.wall_ns();
                              return {};
                          }}));
    return true;
}

Result<void> Conductor::restore_server(const RequestContext& context, const std::string& uuid) {
    const Instance instance = TRY(instances_.get(uuid))->instance;
    const ProjectUsage usage = instances_.usage(instance.project_id);
    const auto limits = quotas_.limits(instance.project_id);
    std::vector<QuotaLine> over;
    for (const QuotaLine& line :
         {QuotaLine{"instances", 1, usage.instances, limits.at("instances")},
          QuotaLine{"cores", instance.flavor.vcpus, usage.cores, limits.at("cores")},
          QuotaLine{"ram", instance.flavor.memory_mb, usage.ram_mb, limits.at("ram")}}) {
        if (line.limit >= 0 && line.used + line.per_server > line.limit) {
            over.push_back(line);
        }
    }
    if (instance.vm_state == vm_states::kSoftDeleted && !over.empty()) {
        return quota_exceeded(over, 1);
    }
    TRY(run_verb(context, uuid,
                 VerbCall{ServerVerb::Restore, task_states::kRestoring,
                          [&](ComputeApi& api) { return api.restore_instance(context, uuid); },
                          [](Instance& changed) -> Result<void> {
                              changed.deleted_ns = 0;
                              return {};
                          }}));
    return {};
}

// What a server that is deleted leaves in other records: its shelved disk, an open migration.
void Conductor::forget_server(const RequestContext& context, const Instance& instance) {
    if (instance.old_flavor || instance.new_flavor) {
        const auto ended = migrations_.set_status(instance.uuid, "confirmed");
        if (!ended.ok()) {
            log_warn("conductor", "a migration was not closed",
                     {{"server", instance.uuid}, {"why", ended.error().text()}});
        }
    }
    const auto shelved = instance.system_metadata.find(kShelvedImageId);
    if (shelved == instance.system_metadata.end()) {
        return;
    }
    const auto removed = images_.remove(context, shelved->second);
    if (!removed.ok()) {
        log_warn("conductor", "the shelved disk of a deleted server stays",
                 {{"image", shelved->second}, {"why", removed.error().text()}});
    }
}

}  // namespace kumoi::compute
