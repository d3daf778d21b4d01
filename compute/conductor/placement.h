// Placement: turns what is registered, alive and claimed into HostStates, asks the scheduler, and
// remembers in-flight picks until their record is stored, so that parallel creates never take the
// same room twice. One create at a time holds a Session; readers of records are not blocked.
//
//     Placement::Session session(placement);                   // the lock
//     for (...) { auto host = session.pick(spec); ... }         // each pick counts for the next
//     store.insert(records with hosts);                         // now the records claim
#pragma once

#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/conductor/aggregate_store.h"
#include "compute/conductor/instance_store.h"
#include "compute/conductor/migration_store.h"
#include "compute/conductor/server_group_store.h"
#include "compute/conductor/service_store.h"
#include "scheduler/filter_scheduler.h"

namespace kumoi::compute {

struct PickedHost {
    std::string host;
    std::string node;
    std::string availability_zone;
    std::string report;  // why, for the log
};

class Placement {
public:
    Placement(scheduler::FilterScheduler scheduler, const ServiceStore& services,
              const InstanceStore& instances, const AggregateStore& aggregates,
              const ServerGroupStore& groups, const MigrationStore& migrations)
        : scheduler_(std::move(scheduler)),
          services_(services),
          instances_(instances),
          aggregates_(aggregates),
          groups_(groups),
          migrations_(migrations) {}

    class Session {
    public:
        explicit Session(Placement& placement);
        // Exhausted, fault NoValidHost, with every host's reason.
        Result<PickedHost> pick(const scheduler::RequestSpec& spec);

    private:
        Placement& placement_;
        std::lock_guard<std::mutex> lock_;
        std::vector<scheduler::HostState> hosts_;
    };

    std::vector<scheduler::HostState> host_states() const;
    // What the flavor, the zone and the group (may be empty) ask of a host.
    scheduler::RequestSpec request_spec(const Instance& instance,
                                        const std::string& group_uuid) const;

private:
    // What servers on their way between hosts hold at the end where they are not recorded.
    void count_moves(std::vector<scheduler::HostState>& hosts) const;

    const scheduler::FilterScheduler scheduler_;
    const ServiceStore& services_;
    const InstanceStore& instances_;
    const AggregateStore& aggregates_;
    const ServerGroupStore& groups_;
    const MigrationStore& migrations_;
    std::mutex mutex_;  // held by the one Session
};

}  // namespace kumoi::compute
