// Verb: the wrappers Nova puts around every operation of a server, in one place. It writes the
// intent to the journal, opens the action event, runs the operation and closes both; when it failed
// it clears task_state and records a fault, except where another operation took the server over
// (UnexpectedTaskState) or it is gone (InstanceNotFound). Runs on a worker of the server's queue.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "compute/driver/virt_driver.h"
#include "compute/manager/conductor_api.h"
#include "compute/manager/image_api.h"
#include "compute/manager/journal.h"
#include "compute/manager/manager_options.h"
#include "compute/manager/network_api.h"
#include "compute/resources/resource_tracker.h"

namespace kumoi::compute {

class CloudRecords;
class ExternalEvents;
class HostTasks;
class UnsettledOperations;
struct VolumeServices;
class MoveRecords;
class LiveMigrationRecords;
class LiveMigrations;

// What tasks work with. Everything outlives them.
struct NodeServices {
    ConductorApi& conductor;
    NetworkApi& network;
    VifDriver& vifs;
    VirtDriver& driver;
    ImageApi& images;
    ResourceTracker& tracker;
    Journal& journal;
    const Clock& clock;
    const ManagerOptions& options;
    ExternalEvents* events = nullptr;   // null: nobody tells this node anything
    VolumeServices* volumes = nullptr;  // null: this cloud has no volumes
    HostTasks* tasks = nullptr;         // null: standalone; else Nova keeps the records
    UnsettledOperations* unsettled = nullptr;
    MoveRecords* moves = nullptr;          // null: servers never leave their host
    CloudRecords* cloud = nullptr;         // null: standalone
    LiveMigrationRecords* live = nullptr;  // null: no live migration here
    LiveMigrations* migrations = nullptr;
};

// Which server, for whom, and under which journal entry a task runs.
struct Operation {
    RequestContext context;
    std::string uuid;
    uint64_t journal_id = 0;
};

struct VerbInfo {
    std::string_view verb;          // in the journal: "stop"
    std::string_view event;         // in the action's events: "compute_stop_instance"; empty: none
    bool cleans_up_itself = false;  // its task decides about task_state and fault
};

namespace verbs {
constexpr VerbInfo kBuild{"build", "compute__do_build_and_run_instance", true};
constexpr VerbInfo kTerminate{"terminate", "compute_terminate_instance"};
constexpr VerbInfo kStart{"start", "compute_start_instance"};
constexpr VerbInfo kStop{"stop", "compute_stop_instance"};
constexpr VerbInfo kReboot{"reboot", "compute_reboot_instance"};
constexpr VerbInfo kPause{"pause", "compute_pause_instance"};
constexpr VerbInfo kUnpause{"unpause", "compute_unpause_instance"};
constexpr VerbInfo kSuspend{"suspend", "compute_suspend_instance"};
constexpr VerbInfo kResume{"resume", "compute_resume_instance"};
constexpr VerbInfo kRescue{"rescue", "compute_rescue_instance"};
constexpr VerbInfo kUnrescue{"unrescue", "compute_unrescue_instance"};
constexpr VerbInfo kRebuild{"rebuild", "compute_rebuild_instance"};
constexpr VerbInfo kSnapshot{"snapshot", "compute_snapshot_instance"};
constexpr VerbInfo kBackup{"backup", "compute_backup_instance"};
constexpr VerbInfo kResize{"resize", "compute_resize_instance"};
constexpr VerbInfo kConfirmResize{"confirm_resize", "compute_confirm_resize"};
constexpr VerbInfo kRevertResize{"revert_resize", "compute_revert_resize"};
// Of moves between hosts; their tasks decide about task_state and fault.
constexpr VerbInfo kPrepResize{"prep_resize", "compute_prep_resize", true};
constexpr VerbInfo kMoveAway{"move_away", "compute_resize_instance", true};
constexpr VerbInfo kFinishResize{"finish_resize", "compute_finish_resize", true};
constexpr VerbInfo kConfirmMove{"confirm_move", "compute_confirm_resize", true};
constexpr VerbInfo kRevertMove{"revert_move", "compute_revert_resize", true};
constexpr VerbInfo kFinishRevert{"finish_revert_resize", "compute_finish_revert_resize", true};
constexpr VerbInfo kEvacuate{"evacuate", "compute_rebuild_instance", true};
// Of live migrations. The event of the first is over when its turn is waited for, as in Nova.
constexpr VerbInfo kQueueLiveMigration{"queue_live_migration", "compute_live_migration", true};
constexpr VerbInfo kLiveMigration{"live_migration", "", true};
constexpr VerbInfo kAbortLiveMigration{"live_migration_abort", "compute_live_migration_abort",
                                       true};
constexpr VerbInfo kForceLiveMigration{"live_migration_force_complete",
                                       "compute_live_migration_force_complete", true};
constexpr VerbInfo kCheckLiveDestination{"check_can_live_migrate_destination",
                                         "compute_check_can_live_migrate_destination", true};
constexpr VerbInfo kCheckLiveSource{"check_can_live_migrate_source",
                                    "compute_check_can_live_migrate_source", true};
constexpr VerbInfo kPreLiveMigration{"pre_live_migration", "compute_pre_live_migration", true};
constexpr VerbInfo kPostLiveMigration{"post_live_migration_at_destination",
                                      "compute_post_live_migration_at_destination", true};
constexpr VerbInfo kRollbackLiveMigration{"rollback_live_migration_at_destination",
                                          "compute_rollback_live_migration_at_destination", true};
constexpr VerbInfo kShelve{"shelve", "compute_shelve_instance"};
constexpr VerbInfo kShelveOffload{"shelve_offload", "compute_shelve_offload_instance"};
constexpr VerbInfo kUnshelve{"unshelve", "compute_unshelve_instance"};
constexpr VerbInfo kSetPassword{"set_admin_password", "compute_set_admin_password"};
constexpr VerbInfo kSoftDelete{"soft_delete", "compute_soft_delete_instance"};
constexpr VerbInfo kRestore{"restore", "compute_restore_instance"};
// Without a task_state of their own, as in Nova: what another verb has set is not theirs to clear.
constexpr VerbInfo kAttachInterface{"attach_interface", "compute_attach_interface", true};
constexpr VerbInfo kDetachInterface{"detach_interface", "compute_detach_interface", true};
constexpr VerbInfo kAttachVolume{"attach_volume", "compute_attach_volume", true};
constexpr VerbInfo kDetachVolume{"detach_volume", "compute_detach_volume", true};
constexpr VerbInfo kSwapVolume{"swap_volume", "compute_swap_volume", true};
}  // namespace verbs

void run_verb(NodeServices& services, const VerbInfo& info, const RequestContext& context,
              const std::string& uuid,
              const std::function<Result<void>(const Operation&)>& operation);
// The same for an operation that the journal already knows: recovery continues it under its number,
// and closes the event that was opened before the crash.
void resume_verb(NodeServices& services, const VerbInfo& info, const Operation& operation,
                 const std::function<Result<void>(const Operation&)>& function);

void warn_unless_ok(const Result<void>& result, std::string_view what);
bool is_unexpected_task_state(const Error& error);
bool is_instance_gone(const Error& error);
// Either of the two: the server is another operation's now, usually a delete's.
bool is_taken_over(const Error& error);
Fault fault_from(const Error& error, const Clock& clock);
// The fault the server's owner sees; the caller, or run_verb for it, logs the error.
void record_fault(NodeServices& services, const std::string& uuid, const Error& error);

inline constexpr char kOldVmState[] = "old_vm_state";  // Nova's key in system_metadata

// A change of task_state that holds only when it is one of `expected` until now.
InstanceUpdate to_task_state(std::optional<std::string> to,
                             std::vector<std::optional<std::string>> expected);
// Leaves the server in ERROR after a failure that could not be undone.
void set_error_state(NodeServices& services, const std::string& uuid);

// Power state as the driver sees it; kNoState when it knows no such guest.
int power_state_of(VirtDriver& driver, const Instance& instance);

// Makes the network devices of a server exist; returns its interfaces with TAP names and slots.
Result<std::vector<VifInfo>> plug_all(NodeServices& services, const Instance& instance);
// Takes them away again; goes on after a failure and returns the first.
Result<void> unplug_all(NodeServices& services, const Instance& instance);

}  // namespace kumoi::compute
