#include "compute/manager/nova_rules.h"

#include <algorithm>

#include "base/log.h"
#include "compute/manager/shelve_task.h"
#include "compute/manager/snapshot_task.h"
#include "compute/manager/spawn_task.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

using TaskState = std::optional<std::string>;

constexpr VerbInfo kLostBuild{"build", "compute__do_build_and_run_instance", true};
constexpr VerbInfo kNoEvent{"", "", true};  // no request stands behind it

bool ran_before(const Instance& instance) {
    const auto old = instance.system_metadata.find(kOldVmState);
    return old != instance.system_metadata.end() ? old->second == vm_states::kActive
                                                 : instance.power_state == power_states::kRunning;
}

Result<void> save_task_end(NodeServices& services, const Instance& instance) {
    return services.conductor.instance_save(instance.uuid,
                                            to_task_state(std::nullopt, {instance.task_state}));
}

Result<void> clear_task(NodeServices& services, const Operation& operation) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    log_info("compute", "a task from before the restart is given up",
             {{"task", instance.task_state.value_or("")}});
    return save_task_end(services, instance);
}

// Images of this server that never got their data; the control plane made them for a request that
// this node lost.
void discard_unfinished_images(NodeServices& services, const Operation& operation,
                               const Instance& instance) {
    const auto images = services.images.list(operation.context, {{"instance_uuid", instance.uuid}});
    if (!images.ok()) {
        log_warn("compute", "unfinished images were not looked for",
                 {{"why", images.error().text()}});
        return;
    }
    for (const ImageMeta& image : *images) {
        if (image.status == "queued" || image.status == "saving") {
            warn_unless_ok(services.images.remove(operation.context, image.id),
                           "an unfinished image was not removed");
        }
    }
}

Result<void> give_up_image(NodeServices& services, const Operation& operation) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    discard_unfinished_images(services, operation, instance);
    TRY(save_task_end(services, instance));
    return node_was_restarted("made an image of this server");
}

// Back to what it was: a running server was powered off before its image was taken.
Result<void> give_up_shelve(NodeServices& services, const Operation& operation) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    discard_unfinished_images(services, operation, instance);
    if (instance.vm_state == vm_states::kActive) {
        instance.network_info = TRY(plug_all(services, instance));
        TRY(services.driver.power_on(instance));
    }
    InstanceUpdate update = to_task_state(std::nullopt, {instance.task_state});
    update.power_state = power_state_of(services.driver, instance);
    TRY(services.conductor.instance_save(instance.uuid, update));
    return node_was_restarted("shelved this server");
}

Result<void> give_up_build(NodeServices& services, const Operation& operation) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    const Error reason = node_was_restarted("built this server");
    SpawnTask::rollback(services, operation, instance, reason);
    return reason;
}

Result<void> fail_rebuild(NodeServices& services, const Operation& operation) {
    set_error_state(services, operation.uuid);  // the verb records the rest
    return node_was_restarted("rebuilt this server");
}

// The guest as it was before its disks were put aside; its migration is another matter.
Result<void> revert_resize(NodeServices& services, const Operation& operation) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    instance.network_info = TRY(plug_all(services, instance));
    TRY(services.driver.finish_revert_migration(instance, ran_before(instance)));
    InstanceUpdate update = to_task_state(std::nullopt, {instance.task_state});
    update.power_state = power_state_of(services.driver, instance);
    update.new_flavor = std::optional<Flavor>();
    update.old_flavor = std::optional<Flavor>();
    TRY(services.conductor.instance_save(instance.uuid, update));
    instance.new_flavor = instance.old_flavor = std::nullopt;
    services.tracker.set_share(instance);
    return node_was_restarted("resized this server");
}

TaskContinuation image_continuation(const Instance& instance) {
    if (instance.task_arguments.image_id.empty()) {
        return {kNoEvent, give_up_image};
    }
    const bool backup = !instance.task_arguments.backup_type.empty();
    const SnapshotKind kind = backup ? SnapshotKind::Backup : SnapshotKind::Image;
    return {backup ? verbs::kBackup : verbs::kSnapshot,
            [kind](NodeServices& services, const Operation& operation) {
                return SnapshotTask(services, operation, kind).finish_after_restart();
            }};
}

bool is_shelving(std::string_view task) {
    return task.starts_with(task_states::kShelving) && task != task_states::kShelvingOffloading;
}

}  // namespace

bool is_cut_short_build(const Instance& instance) {
    const std::string task = instance.task_state.value_or("");
    if (task == task_states::kDeleting || task == task_states::kSoftDeleting ||
        instance.vm_state == vm_states::kShelvedOffloaded ||
        instance.vm_state == vm_states::kDeleted) {
        return false;
    }
    return instance.vm_state == vm_states::kBuilding || task == task_states::kScheduling ||
           task == task_states::kBlockDeviceMapping || task == task_states::kNetworking ||
           task == task_states::kSpawning;
}

std::optional<TaskContinuation> nova_continuation_of(const Instance& instance,
                                                     std::string_view verb) {
    const std::string task = instance.task_state.value_or("");
    if (is_cut_short_build(instance)) {
        return TaskContinuation{kLostBuild, give_up_build};
    }
    if (task.starts_with("image_")) {
        return image_continuation(instance);
    }
    if (task.starts_with(task_states::kRebuilding) || task.starts_with("rebuild_")) {
        return TaskContinuation{verbs::kRebuild, fail_rebuild};
    }
    if (task == task_states::kResizePrep || task == task_states::kMigrating) {
        return TaskContinuation{kNoEvent, clear_task};
    }
    if (task == task_states::kResizeMigrating) {
        return TaskContinuation{kNoEvent, revert_resize};
    }
    if (is_shelving(task) && instance.task_arguments.image_id.empty()) {
        return TaskContinuation{kNoEvent, give_up_shelve};
    }
    return continuation_of(instance, verb);
}

Error node_was_restarted(std::string_view what) {
    return Error::unavailable(
               "The node was restarted, or did not hear from the control plane, while it {}", what)
        .with_hint("Ask for it again.");
}

void fail_server(NodeServices& services, const std::string& uuid, const Error& reason) {
    InstanceUpdate update;
    update.vm_state = vm_states::kError;
    update.task_state = TaskState();
    const auto saved = services.conductor.instance_save(uuid, update);
    if (!saved.ok()) {
        if (!is_instance_gone(saved.error())) {
            log_error("compute", "state ERROR was not recorded",
                      {{"server", uuid}, {"why", saved.error().text()}});
        }
        return;
    }
    warn_unless_ok(services.conductor.fault_create(uuid, fault_from(reason, services.clock)),
                   "the fault was not recorded");
}

bool plug_again(NodeServices& services, Instance& instance) {
    auto plugged = plug_all(services, instance);
    if (!plugged.ok()) {
        log_error("compute", "the ports of a server cannot be plugged again",
                  {{"server", instance.uuid}, {"why", plugged.error().text()}});
        fail_server(services, instance.uuid, plugged.error());
        return false;
    }
    instance.network_info = std::move(*plugged);
    return true;
}

}  // namespace kumoi::compute
