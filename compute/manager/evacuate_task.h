// Evacuation: a server of a host that is down is made again here, on its own disks when both hosts
// use the same folders, else from its image. Its record stays the other host's until the guest
// runs. The other host removes what it has of it when it is back (move_recovery.h).
#pragma once

#include "compute/manager/move_request.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

class EvacuateTask {
public:
    EvacuateTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    Result<void> execute(const MoveRequest& request);
    // As Nova: what a restart cut short is in ERROR, and can be evacuated again.
    // made_disks: the step kMakesDisks was reached.
    Result<void> give_up_after_restart(bool made_disks);
    static constexpr char kMakesDisks[] = "spawn";

private:
    Result<void> check(const MoveRequest& request);
    Result<void> claim();
    Result<void> run_steps(const MoveRequest& request);
    Result<void> start_guest(const std::string& admin_password);
    Result<void> record(bool stopped);
    Result<void> finish();
    void rollback(const Error& reason);

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
    Claim claim_;
    bool shared_ = false;     // its disks are here already
    bool touched_ = false;    // something of it may be here
    bool recording_ = false;  // the records may say that it is here
};

}  // namespace kumoi::compute
