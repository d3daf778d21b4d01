// RebuildTask: the server is made anew from its image, keeping its id, name, ports and place
// (Nova's rebuild_instance). The record holds the new image already. Until the driver has the new
// image at hand nothing is lost; what fails later leaves the server in ERROR, from where it can be
// rebuilt again. Repeating it after a crash starts over.
#pragma once

#include "compute/manager/compute_api.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

class RebuildTask {
public:
    RebuildTask(NodeServices& services, const Operation& operation, std::string admin_password)
        : services_(services), operation_(operation), admin_password_(std::move(admin_password)) {}

    Result<void> execute();

private:
    Result<void> run_steps();
    Result<void> announce();
    Result<void> power_off();
    Result<void> reimage_boot_volume();
    Result<void> build();
    Result<void> record();

    NodeServices& services_;
    const Operation& operation_;
    const std::string admin_password_;
    Instance instance_;
};

}  // namespace kumoi::compute
