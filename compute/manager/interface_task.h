// Network cards that come to and leave a server that exists (Nova's attach_interface and
// detach_interface). The port is bound first and recorded with the server last; what a restart
// finds in between is carried forward. Neither touches task_state.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "compute/manager/compute_api.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

class AttachInterfaceTask {
public:
    AttachInterfaceTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    Result<VifInfo> execute(const RequestedNetwork& requested);
    // After a restart: every port that is bound to the server and not recorded with it. `steps`: of
    // the journal, which knows whether it is the user's own.
    Result<void> finish_after_restart(const std::set<std::string>& steps);

private:
    Result<VifInfo> allocate(const RequestedNetwork& requested);
    Result<VifInfo> attach(VifInfo vif);
    Result<void> record(const VifInfo& vif);
    Result<void> forget_unbound(const std::vector<VifInfo>& bound);
    void rollback(const VifInfo& vif);

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
};

Result<void> detach_interface_task(NodeServices& services, const Operation& operation,
                                   const std::string& port_id);
// All that were asked to go: those the record marks (VifInfo::detaching), and those of which the
// journal has the step.
Result<void> finish_detaches(NodeServices& services, const Operation& operation,
                             const std::set<std::string>& steps = {});

}  // namespace kumoi::compute
