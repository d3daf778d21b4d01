// MoveRequest: one step of a server's move between hosts, as the control plane or another host asks
// for it. What else there is to know is in the server's record and in MoveRecords.
#pragma once

#include <optional>
#include <string>

#include "compute/manager/conductor_api.h"
#include "compute/objects.h"

namespace kumoi::compute {

enum class MoveStep {
    PrepResize,
    ResizeInstance,
    FinishResize,
    ConfirmResize,
    RevertResize,
    FinishRevertResize,
    Evacuate,
};

struct MoveRequest {
    RequestContext context;
    std::string uuid;
    MoveStep step = MoveStep::PrepResize;
    Flavor flavor;                          // PrepResize: what the server is to have
    bool clean_shutdown = true;             // ResizeInstance
    std::string disk_info;                  // FinishResize: from the source's driver
    bool wait = false;                      // answer when it is done
    std::optional<bool> on_shared_storage;  // Evacuate; nothing: find out
    bool leave_stopped = false;             // Evacuate
    std::string admin_password;             // Evacuate
};

}  // namespace kumoi::compute
