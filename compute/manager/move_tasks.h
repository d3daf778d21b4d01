// The steps of a server's move between two hosts, as Nova's resize chain: each runs on the host
// that its comment names and hands on to the next by a cast. The folder of the source is kept whole
// until the move is confirmed: until the guest has started on the destination a failure, of either
// host, ends with the server where it was; afterwards revert brings it back.
//
//     destination          source                  destination
//     prep_resize   ───►   resize_instance   ───►  finish_resize   ───►  VERIFY_RESIZE
//     revert_resize ───►   finish_revert_resize    (or confirm_resize, on the source)
#pragma once

#include "compute/manager/move_records.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

class PrepResizeTask {  // destination
public:
    PrepResizeTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    // `flavor`: what the server is to have.
    Result<void> execute(const Flavor& flavor);
    Result<void> give_up_after_restart();

private:
    Result<void> run_steps(const Flavor& flavor);
    Result<void> check_nothing_left(const std::string& source);
    bool is_idle_again();
    void rollback(const Error& reason);

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
    Claim claim_;
};

class MoveAwayTask {  // source: resize_instance
public:
    MoveAwayTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    Result<void> execute(bool clean_shutdown);
    // Forward when the server's record is the destination's already, else back.
    Result<void> finish_after_restart();

private:
    Result<void> load();
    Result<void> run_steps(bool clean_shutdown);
    Result<void> hand_over(const std::string& disk_info);
    bool is_handed_over();
    Result<void> pass_on(const std::string& disk_info);
    Result<void> pass_on_again();
    void rollback(const Error& reason);

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
    Migration migration_;
};

class FinishResizeTask {  // destination
public:
    FinishResizeTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    Result<void> execute(const std::string& disk_info);
    Result<void> finish_after_restart();

private:
    Result<void> run(const std::string& disk_info);
    Result<void> run_steps(const std::string& disk_info);
    Result<void> begin();
    Result<void> connect_networks();
    Result<void> record();
    // What is here of it goes, and the source takes the server back.
    Result<void> send_back(const Error& reason);
    Result<void> give_back();

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
    Migration migration_;
    bool has_disks_ = false;  // they came here with this move
};

// Source. `resumed`: after a restart; then a migration that is confirmed may lack the rest.
Result<void> confirm_move_task(NodeServices& services, const Operation& operation, bool resumed);
Result<void> revert_move_task(NodeServices& services, const Operation& operation);    // destination
Result<void> finish_revert_task(NodeServices& services, const Operation& operation);  // source

// Shared by the tasks.
namespace moves {
bool is_same_host(const Migration& migration);
bool ran_before(const Instance& instance);  // by system_metadata's old_vm_state
Properties without_old_vm_state(Properties system_metadata);
// Whether both ends of the migration use the same folders; `other`: the host to ask.
Result<bool> shares_storage(NodeServices& services, const Instance& instance,
                            const std::string& other);
// Binds the ports here and makes their devices; returns the server's interfaces.
Result<std::vector<VifInfo>> connect_here(NodeServices& services, const Operation& operation,
                                          Instance instance);
// The server's volumes get this host's back ends, before its guest starts from its folder here.
Result<void> bring_volumes(NodeServices& services, const Operation& operation,
                           const Instance& instance);
// A server that had left is on this host again, with the back ends its volumes have now.
Result<void> restore_here(NodeServices& services, const Instance& instance,
                          const std::vector<VolumeDisk>& volumes);
}  // namespace moves

}  // namespace kumoi::compute
