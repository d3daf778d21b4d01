// SpawnTask: brings a server to life (Nova's _do_build_and_run_instance): claim, networks, disks,
// guest; or takes all of it back and says whether another host should try.
#pragma once

#include "compute/manager/compute_api.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

class SpawnTask {
public:
    SpawnTask(NodeServices& services, const BuildRequest& request, const Operation& operation);

    // An error has been dealt with when it is returned: nothing of the server is left on this host
    // and it is rescheduled, in state ERROR, or gone.
    Result<void> execute();

    // Also recovery's way to undo a build that a crash cut short.
    static void rollback(NodeServices& services, const Operation& operation, Instance instance,
                         const Error& reason);

private:
    Result<void> run_steps();
    Result<void> start_building();
    Result<void> claim_resources();
    Result<void> allocate_networks();
    Result<void> prepare_block_devices();
    Result<void> plug_interfaces();
    Result<void> spawn_guest();
    Result<void> mark_active();
    Result<void> save(const InstanceUpdate& update) const;

    NodeServices& services_;
    const BuildRequest& request_;
    const Operation& operation_;
    Instance instance_;
    Claim claim_;
    std::vector<BlockDevice> devices_;
    std::vector<VolumeDisk> volumes_;
};

// What becomes of a failed build.
enum class BuildOutcome { Reschedule, Abort, Gone };
BuildOutcome classify_build_failure(const Error& error);

// Marks a spawned server active; recovery uses it to finish a build forward.
Result<void> save_active(NodeServices& services, const Instance& instance);

}  // namespace kumoi::compute
