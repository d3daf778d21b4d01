// TerminateTask: removes a server from this host and the records (Nova's terminate_instance). Every
// step tolerates that its work is done already, so it can be repeated after a crash at any point.
#pragma once

#include "compute/manager/verb.h"

namespace kumoi::compute {

class TerminateTask {
public:
    TerminateTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    Result<void> execute();

private:
    Result<void> load_instance();
    Result<void> destroy_guest();
    Result<void> release_networks();
    void release_all_volumes();
    Result<void> record_deletion();
    void rollback();  // there is no way back: the server goes to ERROR, as in Nova

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
    bool recorded_ = true;  // false: the control plane knows no such server any more
};

}  // namespace kumoi::compute
