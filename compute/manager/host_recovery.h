// HostRecovery: what a node does first after it was started, however it ended: removes what belongs
// to no server, repairs the network devices, and brings every operation that was cut short to an
// end, forward or back (Nova's init_host and _init_instance, plus our journal). Runs once, before
// any verb; the operations themselves run on the servers' queues.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "compute/manager/server_queue.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

class HostRecovery {
public:
    using Submit = std::function<void(const std::string& uuid, std::function<void()> function)>;

    // host_was_rebooted: guests that are down are so because the host was, not because they wanted.
    HostRecovery(NodeServices& services, Submit submit, bool host_was_rebooted)
        : services_(services), submit_(std::move(submit)), host_was_rebooted_(host_was_rebooted) {}

    Result<void> execute();

private:
    Result<void> load();
    void remove_orphans();
    Result<void> repair_networks();
    void continue_operations();
    void continue_tasks();
    void continue_detaches();
    void check_guests();
    void take_over(const std::string& uuid);
    void plug_servers();

    NodeServices& services_;
    const Submit submit_;
    const bool host_was_rebooted_;
    std::vector<Instance> instances_;
    std::vector<OpenOperation> operations_;
    std::set<std::string> busy_;     // servers with an open operation
    std::set<std::string> awaited_;  // whose guests may come here by live migration
    std::set<std::string> failed_;   // servers in ERROR since their ports cannot be plugged
};

// Goes on with an operation that ended in doubt (unsettled.h), on its server's queue.
void settle_operation(NodeServices& services, const OpenOperation& open);

// True when this machine was booted since the last call with this folder (a file holds its boot
// id).
Result<bool> host_was_rebooted(const std::string& state_path);

}  // namespace kumoi::compute
