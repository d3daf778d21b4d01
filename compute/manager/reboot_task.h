// RebootTask: restarts a server's guest (Nova's reboot_instance), soft by asking the guest, hard by
// pulling the plug. When the driver fails but the guest runs on, that is a fault and not an ERROR.
#pragma once

#include "compute/manager/compute_api.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

class RebootTask {
public:
    RebootTask(NodeServices& services, const Operation& operation, RebootType type)
        : services_(services), operation_(operation), type_(type) {}

    Result<void> execute();

private:
    Result<void> load_instance();
    Result<void> announce();  // task_state rebooting -> reboot_pending -> reboot_started
    Result<void> reboot_guest();
    Result<void> record(const Result<void>& rebooted);

    NodeServices& services_;
    const Operation& operation_;
    const RebootType type_;
    Instance instance_;
};

}  // namespace kumoi::compute
