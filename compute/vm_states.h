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
constexpr char kPoweringOff[] = "powering-off";
constexpr char kPoweringOn[] = "powering-on";
constexpr char kDeleting[] = "deleting";
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
