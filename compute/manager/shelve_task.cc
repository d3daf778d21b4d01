#include "compute/manager/shelve_task.h"

#include "base/log.h"
#include "compute/manager/device_metadata.h"
#include "compute/manager/power_tasks.h"
#include "compute/manager/snapshot_task.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/volume_connections.h"
#include "compute/nic_slots.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

std::string shelved_image_of(const Instance& instance) {
    const auto found = instance.system_metadata.find(kShelvedImageId);
    return found == instance.system_metadata.end() ? "" : found->second;
}

// The server as it is spawned from its shelved disk: all else of the image is as before.
Instance on_image(Instance instance, const ImageMeta& shelved) {
    instance.image_id = shelved.id;
    instance.image = shelved;
    return instance;
}

}  // namespace

Result<void> ShelveTask::execute() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    if (instance_.vm_state == vm_states::kShelved) {  // a crash came after the image was whole
        return shelve_offload_task(services_, operation_);
    }
    auto result = run_steps();
    if (!result.ok()) {
        rollback(result.error());
        return result;
    }
    return services_.options.shelved_offload_time_s == 0
               ? shelve_offload_task(services_, operation_)
               : result;
}

Result<void> ShelveTask::run_steps() {
    services_.journal.step(operation_.journal_id, "power_off");
    TRY(services_.driver.power_off(instance_,
                                   shutdown_timeout_of(instance_, services_.options, true)));
    TRY(snapshot_to_image(
        services_, operation_, instance_, instance_.task_arguments.image_id,
        {task_states::kShelvingImagePendingUpload, task_states::kShelvingImageUploading},
        {task_states::kShelving}));
    return record();
}

Result<void> ShelveTask::record() {
    const bool offload = services_.options.shelved_offload_time_s == 0;
    InstanceUpdate update = to_task_state(
        offload ? std::optional<std::string>(task_states::kShelvingOffloading) : std::nullopt,
        {task_states::kShelving, task_states::kShelvingImageUploading});
    update.vm_state = vm_states::kShelved;
    update.power_state = power_state_of(services_.driver, instance_);
    update.system_metadata = instance_.system_metadata;
    Properties& keys = *update.system_metadata;
    keys[kShelvedAt] = iso8601(services_.clock.wall_ns());
    keys[kShelvedImageId] = instance_.task_arguments.image_id;
    keys[kShelvedHost] = services_.options.host;
    return services_.conductor.instance_save(instance_.uuid, update);
}

void ShelveTask::rollback(const Error& reason) {
    services_.journal.step(operation_.journal_id, "rollback");
    forget_shelved_image(services_, operation_.context, instance_.task_arguments.image_id);
    if (instance_.task_arguments.old_vm_state != vm_states::kActive || is_taken_over(reason)) {
        return;  // stopped stays; what a pause or a suspend kept went with the power
    }
    const auto back = [&]() -> Result<void> {
        instance_.network_info = TRY(plug_all(services_, instance_));
        TRY(services_.driver.power_on(instance_));
        InstanceUpdate update;
        update.power_state = power_state_of(services_.driver, instance_);
        return services_.conductor.instance_save(instance_.uuid, update);
    }();
    if (!back.ok() && !is_instance_gone(back.error())) {
        log_error("compute", "a server that could not be shelved did not start again",
                  {{"why", back.error().text()}});
    }
}

namespace {

Result<void> offload(NodeServices& services, const Operation& operation) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    services.journal.step(operation.journal_id, "offload");
    // A server on a volume comes here running: what it has in memory must reach the volume.
    if (power_state_of(services.driver, instance) == power_states::kRunning) {
        const int64_t patience_s = shutdown_timeout_of(instance, services.options, true);
        TRY(services.driver.power_off(instance, patience_s));
    }
    TRY(services.network.unbind(operation.context, instance));
    TRY(unplug_all(services, instance));  // can be made good; what follows cannot
    TRY(services.driver.destroy(instance));
    TRY(reserve_volumes(services, operation.context, instance));
    InstanceUpdate update = to_task_state(
        std::nullopt, {task_states::kShelving, task_states::kShelvingOffloading, std::nullopt});
    update.vm_state = vm_states::kShelvedOffloaded;
    update.power_state = power_states::kNoState;
    update.host = "";
    update.node = "";
    TRY(services.conductor.instance_save(instance.uuid, update));
    services.tracker.release(instance.uuid);
    return {};
}

}  // namespace

// A server that has lost its ports or its guest already is not given back half: it is done again.
Result<void> shelve_offload_task(NodeServices& services, const Operation& operation) {
    auto result = offload(services, operation);
    if (!result.ok() && !is_taken_over(result.error())) {
        UnsettledOperations::note_doubt();
    }
    return result;
}

Result<void> UnshelveTask::execute() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    auto result = run_steps();
    if (!result.ok()) {
        claim_.abort();
        rollback(result.error());
    }
    return result;
}

Result<void> UnshelveTask::run_steps() {
    TRY(services_.conductor.instance_save(
        instance_.uuid,
        to_task_state(task_states::kSpawning, {task_states::kUnshelving, task_states::kSpawning})));
    const std::string shelved_id = shelved_image_of(instance_);
    const ImageMeta shelved = shelved_id.empty()
                                  ? instance_.image  // the root disk is a volume
                                  : TRY(services_.images.show(operation_.context, shelved_id));
    if (!services_.tracker.is_tracked(instance_.uuid)) {
        claim_ = TRY(services_.tracker.claim(instance_));
    }
    if (instance_.host != services_.options.host) {  // from here on a restart finds it
        InstanceUpdate update;
        update.host = update.node = services_.options.host;
        TRY(services_.conductor.instance_save(instance_.uuid, update));
    }
    instance_.host = services_.options.host;
    services_.journal.step(operation_.journal_id, "plug");
    TRY(services_.network.rebind(operation_.context, instance_, instance_.host));
    auto vifs = TRY(services_.network.refresh(operation_.context, instance_));
    keep_nic_slots(vifs, instance_.network_info);
    instance_.network_info = std::move(vifs);
    instance_.network_info = TRY(plug_all(services_, instance_));
    services_.journal.step(operation_.journal_id, "volumes");
    const auto volumes = TRY(attach_volumes(services_, operation_.context, instance_));
    const auto tagged = TRY(record_tagged_devices(services_, operation_.context, instance_));
    services_.journal.step(operation_.journal_id, "spawn");
    const Instance spawned = on_image(instance_, shelved);
    TRY(services_.driver.spawn({operation_.context, spawned, {}, volumes, tagged}));
    services_.journal.step(operation_.journal_id, "spawned");
    TRY(record());
    services_.tracker.set_building(instance_.uuid, false);
    claim_.keep();
    return {};
}

Result<void> UnshelveTask::record() {
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kSpawning});
    update.vm_state = vm_states::kActive;
    update.power_state = power_state_of(services_.driver, instance_);
    update.launched_ns = services_.clock.wall_ns();
    update.network_info = instance_.network_info;
    update.system_metadata = without_shelved_keys(instance_.system_metadata);
    TRY(services_.conductor.instance_save(instance_.uuid, update));
    forget_shelved_image(services_, operation_.context, shelved_image_of(instance_));
    return {};
}

Result<void> UnshelveTask::finish_after_restart() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    if (instance_.vm_state == vm_states::kActive) {
        return {};
    }
    if (power_state_of(services_.driver, instance_) == power_states::kRunning) {
        instance_.network_info = TRY(plug_all(services_, instance_));
        return record();
    }
    const Error reason = Error::unavailable("The node was restarted while it unshelved this server")
                             .with_hint("Unshelve it again.");
    rollback(reason);
    return reason;
}

void UnshelveTask::rollback(const Error& reason) {
    services_.journal.step(operation_.journal_id, "rollback");
    const bool taken = is_taken_over(reason);  // a delete cleans up the rest
    const auto destroyed = services_.driver.destroy(instance_);
    const auto unplugged = unplug_all(services_, instance_);
    const auto freed = taken ? disconnect_volumes(services_, instance_)
                             : reserve_volumes(services_, operation_.context, instance_);
    bool clean = true;
    for (const Result<void>* result : {&destroyed, &unplugged, &freed}) {
        undo_or_retry(*result, "cleaning up a failed unshelve failed");
        clean = clean && result->ok();
    }
    services_.tracker.release(instance_.uuid);
    if (taken || (!clean && services_.unsettled != nullptr)) {
        return;  // a task_state that stays says what is to be cleaned up again
    }
    InstanceUpdate update;
    update.vm_state = vm_states::kShelvedOffloaded;  // also when the answer to another was lost
    update.system_metadata = instance_.system_metadata;
    update.task_state = std::optional<std::string>();
    update.power_state = power_states::kNoState;
    update.host = "";
    update.node = "";
    const auto saved = services_.conductor.instance_save(instance_.uuid, update);
    if (!saved.ok() && !is_instance_gone(saved.error())) {
        log_error("compute", "a failed unshelve was not recorded", {{"why", saved.error().text()}});
    }
}

void forget_shelved_image(NodeServices& services, const RequestContext& context,
                          const std::string& image_id) {
    if (image_id.empty()) {
        return;
    }
    const auto removed = services.images.remove(context, image_id);
    if (!removed.ok()) {
        log_warn("compute", "a shelved image was not removed",
                 {{"image", image_id}, {"why", removed.error().text()}});
    }
}

Properties without_shelved_keys(Properties system_metadata) {
    for (const char* key : {kShelvedAt, kShelvedImageId, kShelvedHost}) {
        system_metadata.erase(key);
    }
    return system_metadata;
}

}  // namespace kumoi::compute
