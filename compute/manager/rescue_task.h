// Rescue (Nova's rescue_instance): the server boots another image, with its own disks beside it,
// and unrescue brings it back. A rescue that fails gives the server back as it was.
#pragma once

#include "compute/manager/compute_api.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

class RescueTask {
public:
    // `admin_password`: empty when it is not known any more (after a crash).
    RescueTask(NodeServices& services, const Operation& operation, std::string admin_password)
        : services_(services), operation_(operation), admin_password_(std::move(admin_password)) {}

    Result<void> execute();

private:
    Result<void> run_steps();
    void rollback();

    NodeServices& services_;
    const Operation& operation_;
    const std::string admin_password_;
    Instance instance_;
};

Result<void> unrescue_task(NodeServices& services, const Operation& operation);

}  // namespace kumoi::compute
