// The destination's steps of a live migration: ready for the guest, its owner, or neither.
#include "base/log.h"
#include "compute/manager/cloud_records.h"
#include "compute/manager/live_migration_records.h"
#include "compute/manager/live_migration_tasks.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/volume_api.h"
#include "compute/manager/volume_connections.h"
#include "compute/nic_slots.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

Result<LiveMigrateData> PreLiveMigrationTask::execute(const std::string& disks,
                                                      LiveMigrateData data) {
    data_ = std::move(data);
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    if (instance_.host == services_.options.host) {
        return Error::conflict("Server {} is on this host already", instance_.uuid)
            .with_fault("InstanceExists");
    }
    before_ = TRY(volumes_of(services_, operation_.context, operation_.uuid));
    services_.journal.step(operation_.journal_id,
                           data_.is_shared_instance_path ? "shared" : "arrive");
    auto result = run_steps(disks);
    if (!result.ok()) {
        rollback();
        return std::move(result).error();
    }
    return data_;
}

Result<void> PreLiveMigrationTask::run_steps(const std::string& disks) {
    const RequestContext& context = operation_.context;
    const std::string source = instance_.host;
    if (services_.cloud != nullptr) {
        TRY(services_.cloud->check_group(context, instance_.uuid, false));
    }
    services_.live->announce(context, instance_.uuid, LiveMigrationNews::Pre, true);
    TRY(attach_volumes());
    if (!data_.vifs.empty()) {
        std::vector<VifInfo> vifs = data_.vifs;
        keep_nic_slots(vifs, instance_.network_info);
        instance_.network_info = std::move(vifs);
    }
    instance_.network_info = TRY(plug_all(services_, instance_));
    LiveMigrationArrival arrival;
    arrival.context = context;
    arrival.instance = instance_;
    arrival.migration_uuid = data_.migration_uuid;
    arrival.source_host = source;
    arrival.plan = data_.plan();
    arrival.disks = disks;
    arrival.volumes = disks_;
    data_.arrival = TRY(services_.driver.pre_live_migration(arrival));
    data_.wait_for_vif_plugged =
        services_.options.live_migration.wait_for_vif_plug && !instance_.network_info.empty();
    TRY(services_.network.set_migrating_to(context, instance_, source, services_.options.host));
    TRY(complete_attachments());
    services_.live->announce(context, instance_.uuid, LiveMigrationNews::Pre, false);
    return {};
}

Result<void> PreLiveMigrationTask::attach_volumes() {
    for (const BlockDevice& device : before_) {
        data_.old_attachment_ids[device.volume_id] = device.attachment_id;
        here_.push_back(device);
        disks_.push_back(TRY_CONTEXT(
            connect_arriving_volume(services_, operation_.context, instance_, here_.back()),
            "attaching volume {}", device.volume_id));
    }
    return {};
}

Result<void> PreLiveMigrationTask::complete_attachments() {
    for (const BlockDevice& device : here_) {
        TRY(services_.volumes->volumes.complete_attachment(operation_.context,
                                                           device.attachment_id));
    }
    return {};
}

// What the source knows of is its to take back too, in case our answer does not reach it.
void PreLiveMigrationTask::rollback() {
    services_.journal.step(operation_.journal_id, "rollback");
    undo_or_retry(
        services_.driver.rollback_live_migration(instance_, !data_.is_shared_instance_path),
        "what was made for a server that does not come was not removed");
    undo_or_retry(disconnect_volumes(services_, instance_), "a volume's back end goes on");
    undo_or_retry(unplug_all(services_, instance_),
                  "network devices of a server that does not come were not removed");
    give_volumes_back();
}

void PreLiveMigrationTask::give_volumes_back() {
    for (size_t i = 0; i < here_.size(); ++i) {
        if (here_[i].attachment_id != before_[i].attachment_id) {
            warn_unless_ok(take_attachment_back(services_, operation_.context, here_[i],
                                                before_[i].attachment_id, before_),
                           "the source has to take the attachment of a volume back");
        }
    }
}

Result<void> PreLiveMigrationTask::undo_after_restart(bool shared) {
    auto instance = services_.conductor.instance_get(operation_.uuid);
    if (!instance.ok() && !is_instance_gone(instance.error())) {
        return std::move(instance).error();
    }
    if (instance.ok()) {
        instance_ = std::move(*instance);
    } else {
        instance_.uuid = operation_.uuid;
    }
    if (instance_.host == services_.options.host) {
        return {};  // it has come all the same
    }
    const auto removed = services_.driver.rollback_live_migration(instance_, !shared);
    if (!removed.ok()) {
        UnsettledOperations::note_undecided();
        return removed;
    }
    undo_or_retry(disconnect_volumes(services_, instance_), "a volume's back end goes on");
    undo_or_retry(unplug_all(services_, instance_),
                  "network devices of a server that does not come were not removed");
    return Error::unavailable("The destination was restarted while it made ready for the server")
        .with_hint("Ask for it again.");
}

namespace {

// The guest runs here: whatever else fails must not hide that.
Result<void> record_arrival(NodeServices& services, Instance& instance) {
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kMigrating, std::nullopt});
    update.progress = 0;
    update.power_state = power_state_of(services.driver, instance);
    update.network_info = instance.network_info;
    const std::string& here = services.options.host;
    auto saved = services.live->save_host(instance.uuid, update, here);
    if (!saved.ok() && is_unexpected_task_state(saved.error())) {  // its delete waits at the source
        InstanceUpdate place;
        place.power_state = update.power_state;
        saved = services.live->save_host(instance.uuid, place, here);
    }
    TRY(saved);
    instance.host = instance.node = here;
    return {};
}

}  // namespace

Result<void> post_live_migration_task(NodeServices& services, const Operation& operation) {
    const RequestContext& context = operation.context;
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    const std::string& here = services.options.host;
    std::string source = instance.host;
    if (source == here) {  // recorded already; what follows may be missing
        const auto migration = services.live->live_migration(instance.uuid);
        source = migration.ok() ? migration->source_compute : "";
    }
    services.journal.step(operation.journal_id, "finish");
    TRY(services.driver.finish_live_migration(instance));
    services.live->announce(context, instance.uuid, LiveMigrationNews::PostDest, true);
    undo_or_retry(services.network.rebind(context, instance, here),
                  "ports of a server that has come are not bound to this host");
    auto vifs = services.network.refresh(context, instance);
    if (vifs.ok()) {
        keep_nic_slots(*vifs, instance.network_info);
        instance.network_info = std::move(*vifs);
    }
    const auto recorded = record_arrival(services, instance);
    if (!recorded.ok()) {
        undo_or_retry(recorded, "a server that has come is not recorded here");
        return recorded;
    }
    warn_unless_ok(services.live->drop_context(instance.uuid),
                   "the context of a migration was not removed");
    if (!source.empty() && source != here) {
        undo_or_retry(services.network.delete_bindings(context, instance, source),
                      "ports of a server that has come are still bound to the other host");
    }
    services.tracker.set_share(instance);
    services.live->announce(context, instance.uuid, LiveMigrationNews::PostDest, false);
    return {};
}

Result<void> rollback_live_migration_task(NodeServices& services, const Operation& operation,
                                          bool destroy_disks, const LiveMigrateData& data) {
    services.journal.step(operation.journal_id, destroy_disks ? "destroy" : "keep");
    const std::string& here = services.options.host;
    auto found = services.conductor.instance_get(operation.uuid);
    if (!found.ok() && !is_instance_gone(found.error())) {
        return std::move(found).error();
    }
    Instance instance;
    instance.uuid = operation.uuid;
    if (found.ok()) {
        instance = std::move(*found);
    }
    if (instance.host == here) {
        return {};
    }
    const auto newest = services.live->live_migration(operation.uuid);
    if (!data.migration_uuid.empty() && newest.ok() && newest->uuid != data.migration_uuid &&
        newest->dest_compute == here && !is_over(newest->status)) {
        return {};  // of an earlier try; this one comes
    }
    const RequestContext& context = operation.context;
    services.live->announce(context, instance.uuid, LiveMigrationNews::RollbackDest, true);
    const auto removed = services.driver.rollback_live_migration(instance, destroy_disks);
    if (!removed.ok()) {
        UnsettledOperations::note_undecided();  // it is or may be ours: nothing else is touched
        return removed;
    }
    undo_or_retry(disconnect_volumes(services, instance), "a volume's back end goes on");
    undo_or_retry(unplug_all(services, instance),
                  "network devices of a server that does not come were not removed");
    undo_or_retry(services.network.delete_bindings(context, instance, here),
                  "ports of a server that does not come are still bound to this host");
    services.tracker.release(instance.uuid);
    services.live->announce(context, instance.uuid, LiveMigrationNews::RollbackDest, false);
    return {};
}

}  // namespace kumoi::compute
