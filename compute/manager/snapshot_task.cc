#include "compute/manager/snapshot_task.h"

#include <algorithm>

#include "base/log.h"
#include "compute/manager/agent_tasks.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;

ImageMeta image_of(const Instance& instance, const DiskSnapshot& disk) {
    ImageMeta meta;
    meta.disk_format = disk.disk_format();
    meta.container_format = "bare";
    // Whoever boots from it later needs at least this much disk.
    const auto gib = static_cast<int64_t>((disk.virtual_size() + kGib - 1) / kGib);
    meta.min_disk_gb = std::max(gib, instance.image.min_disk_gb);
    meta.min_ram_mb = instance.image.min_ram_mb;
    meta.properties = {{"image_location", "snapshot"},
                       {"image_state", "available"},
                       {"owner_id", instance.project_id}};
    return meta;
}

}  // namespace

Result<void> SnapshotTask::execute() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    auto result = run_steps();
    if (!result.ok()) {
        rollback();
    }
    return result;
}

Result<void> SnapshotTask::run_steps() {
    const char* begun =
        kind_ == SnapshotKind::Backup ? task_states::kImageBackup : task_states::kImageSnapshot;
    InstanceUpdate update = to_task_state(begun, {task_states::kImageSnapshotPending, begun});
    update.power_state = power_state_of(services_.driver, instance_);
    TRY(services_.conductor.instance_save(instance_.uuid, update));
    TRY(snapshot_to_image(services_, operation_, instance_, instance_.task_arguments.image_id,
                          {task_states::kImagePendingUpload, task_states::kImageUploading},
                          {begun}));
    if (kind_ == SnapshotKind::Backup) {
        TRY(rotate_backups());
    }
    return record_end();
}

Result<void> SnapshotTask::record_end() {
    return services_.conductor.instance_save(
        instance_.uuid,
        to_task_state(std::nullopt, {task_states::kImageUploading, task_states::kImagePendingUpload,
                                     task_states::kImageSnapshot, task_states::kImageBackup,
                                     task_states::kImageSnapshotPending}));
}

// The newest of each backup_type stay; an older one that cannot be removed does no harm.
Result<void> SnapshotTask::rotate_backups() {
    services_.journal.step(operation_.journal_id, "rotate");
    const TaskArguments& arguments = instance_.task_arguments;
    const auto backups =
        TRY(services_.images.list(operation_.context, {{"image_type", "backup"},
                                                       {"instance_uuid", instance_.uuid},
                                                       {"backup_type", arguments.backup_type}}));
    int64_t kept = 0;
    for (const ImageMeta& image : backups) {
        if (image.status != "active" || ++kept <= arguments.rotation) {
            continue;
        }
        const auto removed = services_.images.remove(operation_.context, image.id);
        if (!removed.ok()) {
            log_warn("compute", "an old backup was not removed",
                     {{"image", image.id}, {"why", removed.error().text()}});
        }
    }
    return {};
}

void SnapshotTask::rollback() {
    services_.journal.step(operation_.journal_id, "rollback");
    const auto removed =
        services_.images.remove(operation_.context, instance_.task_arguments.image_id);
    if (!removed.ok()) {
        log_warn("compute", "an unfinished image was not removed",
                 {{"image", instance_.task_arguments.image_id}, {"why", removed.error().text()}});
    }
}

Result<void> SnapshotTask::finish_after_restart() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    if (instance_.vm_state == vm_states::kActive &&
        power_state_of(services_.driver, instance_) == power_states::kPaused) {
        TRY(services_.driver.unpause(
            instance_));  // an earlier release held it while its disk was copied
    }
    thaw_after_restart(services_, instance_);
    const auto image = services_.images.show(operation_.context, instance_.task_arguments.image_id);
    if (image.ok() && image->status == "active") {
        if (kind_ == SnapshotKind::Backup) {
            TRY(rotate_backups());
        }
        return record_end();
    }
    rollback();
    return Error::unavailable("The node was restarted while it made image {}",
                              instance_.task_arguments.image_id)
        .with_hint("Make the image again.");
}

Result<void> snapshot_to_image(NodeServices& services, const Operation& operation,
                               const Instance& instance, const std::string& image_id,
                               const SnapshotStates& states,
                               std::vector<std::optional<std::string>> from) {
    from.emplace_back(states.pending_upload);  // after a crash
    from.emplace_back(states.uploading);
    TRY(services.conductor.instance_save(instance.uuid,
                                         to_task_state(states.pending_upload, std::move(from))));
    services.journal.step(operation.journal_id, "snapshot");
    const auto disk = TRY(services.driver.snapshot(instance));
    TRY(services.conductor.instance_save(instance.uuid,
                                         to_task_state(states.uploading, {states.pending_upload})));
    services.journal.step(operation.journal_id, "upload");
    return services.images.upload(
        operation.context, image_id, image_of(instance, *disk),
        [&](std::span<std::byte> buffer, uint64_t offset) { return disk->read(buffer, offset); });
}

}  // namespace kumoi::compute
