// PeriodicTasks: nova-compute's periodic tasks beside the manager's own (heartbeat, resources,
// power states, image cache) and NovaConductor::poll_servers(): servers that wait for a deadline,
// networks read again, and what deleted servers left behind. Each casts the verb that Nova's would
// call, so that it waits for its server's turn. docs/reference/recovery.md lists all.
//
// Called on the manager's housekeeping threads; each task runs one at a time.
#pragma once

#include <string>
#include <vector>

#include "api/nova/nova_conductor.h"
#include "api/nova/usage_audit.h"
#include "compute/driver/virt_driver.h"
#include "compute/manager/compute_api.h"
#include "compute/manager/host_tasks.h"
#include "compute/periodic_options.h"

namespace kumoi::nova {

class PeriodicTasks final : public compute::HostTasks {
public:
    struct Borders {
        ObjectClient& objects;
        NovaConductor& conductor;
        NodeRecords& node;
        compute::VirtDriver& driver;
        const Clock& clock;
        Random& random;
        UsageAudit* audit = nullptr;  // null: not wanted
    };
    PeriodicTasks(const Borders& borders, compute::PeriodicOptions options)
        : borders_(borders), options_(std::move(options)) {}

    // Before periodic_tasks(): the manager takes this object when it is made.
    void set_manager(compute::ComputeApi& manager) { manager_ = &manager; }
    std::vector<Periodic> periodic_tasks() override;

    // Each once.
    void heal_instance_info_cache();
    void check_instance_build_time();
    void poll_rebooting_instances();
    void poll_rescued_instances();
    void poll_unconfirmed_resizes();
    void poll_shelved_instances();
    void reclaim_queued_deletes();
    void run_pending_deletes();
    void cleanup_incomplete_migrations();
    void cleanup_running_deleted_instances();
    void cleanup_expired_console_auth_tokens();
    void instance_usage_audit();

private:
    using Instances = std::vector<compute::Instance>;
    Instances servers_here();
    Json admin(const char* read_deleted = "no");
    bool is_older(int64_t wall_ns, int64_t seconds) const;
    // Sets a task on a server that has none and casts its verb; nothing when another was faster.
    void begin(const compute::Instance& instance, const char* task_state,
               Result<void> (compute::ComputeApi::*verb)(const compute::RequestContext&,
                                                         const std::string&));
    Result<void> confirm(NovaObject migration);
    Result<void> pending_deletes();
    Result<void> incomplete_migrations();
    Result<void> reap(const std::string& uuid);
    Result<std::vector<std::string>> guests_of_nobody();

    const Borders borders_;
    const compute::PeriodicOptions options_;
    compute::ComputeApi* manager_ = nullptr;
    std::string healed_;  // the server whose network was read again last
};

}  // namespace kumoi::nova
