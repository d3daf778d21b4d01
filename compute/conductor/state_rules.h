// The table of legal server states: which verb may start in which vm_state and task_state, and the
// refusal in Nova's words (nova/compute/api.py, check_instance_state). Pure.
#pragma once

#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

enum class ServerVerb {
    Start,
    Stop,
    RebootSoft,
    RebootHard,
    Pause,
    Unpause,
    Suspend,
    Resume,
    Rescue,
    Unrescue,
    Rebuild,
    CreateImage,
    CreateBackup,
    Resize,
    Migrate,
    ConfirmResize,
    RevertResize,
    Shelve,
    ShelveOffload,
    Unshelve,
    Restore,
    AttachInterface,
    DetachInterface,
    ChangePassword,
    LiveMigrate,
    Evacuate,
    Delete,
    ForceDelete,
};

const char* to_string(ServerVerb verb);  // Nova's word in messages and actions: "createImage", ...
const char* event_of(ServerVerb verb);   // of the node's half: "compute_snapshot_instance"

// Conflict, fault InstanceInvalidState: "Cannot 'stop' instance <uuid> while it is in vm_state
// ...".
Result<void> check_instance_state(const Instance& instance, ServerVerb verb);

}  // namespace kumoi::compute
