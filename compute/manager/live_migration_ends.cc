// LiveMigrationTask once it is known whose the guest is: what of the server goes from this host, or
// what was made for it on the other. Every step may be repeated: the operation stays open until all
// of them were done (unsettled.h).
#include "base/log.h"
#include "compute/manager/live_migration_records.h"
#include "compute/manager/live_migration_tasks.h"
#include "compute/manager/live_migrations.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/volume_api.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

void note_decided(NodeServices& services, const std::string& uuid) {
    if (services.migrations != nullptr) {
        services.migrations->set_undecided(uuid, false);
    }
}

InstanceUpdate not_migrating_any_more() {
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kMigrating, std::nullopt});
    update.progress = 0;
    return update;
}

}  // namespace

// The guest runs there, for good.
Result<void> LiveMigrationTask::post() {
    services_.journal.step(operation_.journal_id, "post");
    note_decided(services_, operation_.uuid);
    const RequestContext& context = operation_.context;
    leave_volumes();
    services_.live->announce(context, operation_.uuid, LiveMigrationNews::Post, true);
    if (!switched_over_) {
        warn_unless_ok(services_.network.activate_bindings(context, instance_, destination_),
                       "ports are bound again by the destination");
    }
    undo_or_retry(unplug_all(services_, instance_),
                  "network devices of a server that left were not removed");
    leave_host();
    undo_or_retry(tell_destination(), "a server that left is still recorded here");
    services_.tracker.release(operation_.uuid);
    services_.live->announce(context, operation_.uuid, LiveMigrationNews::Post, false);
    warn_unless_ok(services_.live->forget_consoles(operation_.uuid),
                   "tokens of consoles that led here were not removed");
    undo_or_retry(services_.conductor.migration_save(operation_.uuid, "completed"),
                  "the end of a live migration was not recorded");
    undo_or_retry(services_.live->drop_allocations(operation_.uuid),
                  "the allocation of a live migration was not removed");
    return {};
}

void LiveMigrationTask::leave_volumes() {
    if (services_.volumes == nullptr) {
        return;
    }
    undo_or_retry(disconnect_volumes(services_, instance_), "a volume's back end goes on");
    for (const auto& [volume, attachment] : old_attachment_ids_) {
        if (!attachment.empty()) {
            undo_or_retry(
                services_.volumes->volumes.delete_attachment(operation_.context, attachment),
                "the attachment of a volume to this host was not deleted");
        }
    }
}

void LiveMigrationTask::leave_host() {
    undo_or_retry(services_.driver.leave(instance_, data_.is_shared_instance_path),
                  "what is here of a server that left was not removed");
}

// Where the destination does not answer the record says all the same where the guest is: it can be
// evacuated from there then, and that host finishes it when it is back.
Result<void> LiveMigrationTask::tell_destination() {
    const auto told = services_.live->post_live_migration_at_destination(
        operation_.context, operation_.uuid, destination_, data_.plan().block_migration);
    if (told.ok()) {
        return {};
    }
    const auto now = services_.conductor.instance_get(operation_.uuid);
    if (now.ok() ? now->host == destination_ : is_instance_gone(now.error())) {
        return {};
    }
    log_warn("compute", "the destination did not finish a live migration; it is recorded from here",
             {{"destination", destination_}, {"why", told.error().text()}});
    auto saved = services_.live->save_host(operation_.uuid, not_migrating_any_more(), destination_);
    if (!saved.ok() && is_unexpected_task_state(saved.error())) {  // its delete waits
        saved = services_.live->save_host(operation_.uuid, {}, destination_);
    }
    return saved;
}

// The guest is here as before.
void LiveMigrationTask::rollback(const Error& reason, bool cancelled) {
    const RequestContext& context = operation_.context;
    services_.journal.step(operation_.journal_id, cancelled ? "rollback cancelled" : "rollback");
    note_decided(services_, operation_.uuid);
    services_.live->announce(context, operation_.uuid, LiveMigrationNews::Rollback, true);
    if (!cancelled && !is_over(migration_.status)) {
        record_fault(services_, operation_.uuid, reason);
    }
    undo_or_retry(services_.live->return_allocations(operation_.uuid),
                  "the allocation of a live migration was not given back");
    rollback_volumes();
    if (told_destination_ && !destination_.empty()) {
        undo_or_retry(
            services_.live->rollback_live_migration_at_destination(
                context, operation_.uuid, destination_, !data_.is_shared_instance_path, data_),
            "the destination was not told that a server stays");
    }
    rollback_networks();
    const auto recorded = rollback_record(cancelled);
    if (!recorded.ok() && !is_taken_over(recorded.error())) {
        undo_or_retry(recorded, "a server that stays was not given free");
    }
    services_.live->announce(context, operation_.uuid, LiveMigrationNews::Rollback, false);
}

void LiveMigrationTask::rollback_volumes() {
    if (services_.volumes == nullptr || !told_destination_) {
        return;
    }
    auto devices = volumes_of(services_, operation_.context, operation_.uuid);
    if (!devices.ok()) {
        if (!is_instance_gone(devices.error())) {
            undo_or_retry(devices.error(), "volumes of a server that stays were not looked at");
        }
        return;
    }
    bool answers = true;
    for (BlockDevice& device : *devices) {
        const auto old = old_attachment_ids_.find(device.volume_id);
        if (old == old_attachment_ids_.end() || old->second.empty()) {
            continue;
        }
        if (answers) {  // else its rollback does it, when it is back
            const auto removed = services_.live->remove_volume_connection(
                operation_.context, operation_.uuid, destination_, device.volume_id);
            answers = removed.ok();
            warn_unless_ok(removed, "the destination keeps a volume's back end for now");
        }
        if (device.attachment_id != old->second) {
            undo_or_retry(
                take_attachment_back(services_, operation_.context, device, old->second, volumes_),
                "a volume of a server that stays was not given back to this host");
        }
    }
    undo_or_retry(delete_unrecorded_attachments(services_, operation_.context, operation_.uuid),
                  "attachments of volumes to the other host stay");
}

void LiveMigrationTask::rollback_networks() {
    const RequestContext& context = operation_.context;
    if (switched_over_) {
        undo_or_retry(
            services_.network.activate_bindings(context, instance_, services_.options.host),
            "ports of a server that stays lead to the other host");
    }
    if (told_destination_) {
        undo_or_retry(
            services_.network.set_migrating_to(context, instance_, services_.options.host, {}),
            "ports of a server that stays are still marked as moving");
    }
    if (!destination_.empty()) {
        undo_or_retry(services_.network.delete_bindings(context, instance_, destination_),
                      "ports of a server that stays are still bound to the other host");
    }
}

Result<void> LiveMigrationTask::rollback_record(bool cancelled) {
    warn_unless_ok(services_.live->drop_context(operation_.uuid),
                   "the context of a migration was not removed");
    auto saved = services_.conductor.instance_save(operation_.uuid, not_migrating_any_more());
    if (!is_over(migration_.status)) {
        TRY(services_.conductor.migration_save(operation_.uuid,
                                               cancelled ? "cancelled" : "failed"));
    }
    return saved;
}

}  // namespace kumoi::compute
