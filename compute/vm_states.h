// Nova's state words (nova/compute/vm_states.py, task_states.py, power_state.py; values are API).
#pragma once

namespace kumoi::compute {

namespace vm_states {
constexpr char kActive[] = "active";
constexpr char kBuilding[] = "building";
constexpr char kPaused[] = "paused";
constexpr char kSuspended[] = "suspended";
constexpr char kStopped[] = "stopped";
constexpr char kRescued[] = "rescued";
constexpr char kResized[] = "resized";
constexpr char kSoftDeleted[] = "soft-delete";
constexpr char kDeleted[] = "deleted";
constexpr char kError[] = "error";
constexpr char kShelved[] = "shelved";
constexpr char kShelvedOffloaded[] = "shelved_offloaded";
}  // namespace vm_states

namespace task_states {
constexpr char kScheduling[] = "scheduling";
constexpr char kBlockDeviceMapping[] = "block_device_mapping";
constexpr char kNetworking[] = "networking";
constexpr char kSpawning[] = "spawning";
constexpr char kRebooting[] = "rebooting";
constexpr char kRebootPending[] = "reboot_pending";
constexpr char kRebootStarted[] = "reboot_started";
constexpr char kRebootingHard[] = "rebooting_hard";
constexpr char kRebootPendingHard[] = "reboot_pending_hard";
constexpr char kRebootStartedHard[] = "reboot_started_hard";
constexpr char kPausing[] = "pausing";
constexpr char kUnpausing[] = "unpausing";
constexpr char kUpdatingPassword[] = "updating_password";
constexpr char kPoweringOff[] = "powering-off";
constexpr char kPoweringOn[] = "powering-on";
constexpr char kDeleting[] = "deleting";
constexpr char kSoftDeleting[] = "soft-deleting";
constexpr char kRestoring[] = "restoring";
constexpr char kSuspending[] = "suspending";
constexpr char kResuming[] = "resuming";
constexpr char kRescuing[] = "rescuing";
constexpr char kUnrescuing[] = "unrescuing";
constexpr char kRebuilding[] = "rebuilding";
constexpr char kRebuildBlockDeviceMapping[] = "rebuild_block_device_mapping";
constexpr char kRebuildSpawning[] = "rebuild_spawning";
constexpr char kImageSnapshotPending[] = "image_snapshot_pending";
constexpr char kImageSnapshot[] = "image_snapshot";
constexpr char kImagePendingUpload[] = "image_pending_upload";
constexpr char kImageUploading[] = "image_uploading";
constexpr char kImageBackup[] = "image_backup";
constexpr char kMigrating[] = "migrating";  // live
constexpr char kResizePrep[] = "resize_prep";
constexpr char kResizeMigrating[] = "resize_migrating";
constexpr char kResizeMigrated[] = "resize_migrated";
constexpr char kResizeFinish[] = "resize_finish";
constexpr char kResizeReverting[] = "resize_reverting";
constexpr char kResizeConfirming[] = "resize_confirming";
constexpr char kShelving[] = "shelving";
constexpr char kShelvingImagePendingUpload[] = "shelving_image_pending_upload";
constexpr char kShelvingImageUploading[] = "shelving_image_uploading";
constexpr char kShelvingOffloading[] = "shelving_offloading";
constexpr char kUnshelving[] = "unshelving";
}  // namespace task_states

namespace power_states {
constexpr int kNoState = 0;
constexpr int kRunning = 1;
constexpr int kPaused = 3;
constexpr int kShutdown = 4;
constexpr int kCrashed = 6;
constexpr int kSuspended = 7;
}  // namespace power_states

}  // namespace kumoi::compute
