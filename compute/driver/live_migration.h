// Live migration in the words of the driver contract (virt_driver.h): what the manager asks of the
// drivers of both hosts, and what it is told while a guest moves. Texts that a driver returns are
// opaque: the manager carries them to the driver of the other host.
//
//     destination                       source
//     live_migration_facts()      --->  check_live_migration()
//     pre_live_migration()        <---  live_migration_disks()
//                                 --->  live_migration(): blocks until the guest is there, or stays
//     finish_live_migration()           leave()                      (Completed)
//     rollback_live_migration()                                      (Stayed)
//     live_migration_outcome()          live_migration_outcome()     (Unknown, and after a restart)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "compute/block_device.h"
#include "compute/manager/conductor_api.h"
#include "compute/objects.h"

namespace kumoi::compute {

// Source: can this server go to the host that these facts are of?
struct LiveMigrationQuestion {
    std::string facts;                    // of live_migration_facts()
    std::optional<bool> block_migration;  // what was asked for; nothing: whatever fits
    bool disk_over_commit = false;        // the guest's disks may be larger than what is free there
    bool is_volume_backed = false;        // its root disk is a volume
    std::vector<VolumeDisk> volumes;      // of it, as they are connected here
};

// The answer: how its disks come along. Both false: it has none but volumes.
struct LiveMigrationPlan {
    bool block_migration = false;       // they are copied with the stream
    bool shared_instance_path = false;  // both hosts see the same folder of servers
};

// Destination: what is to be ready before the guest comes.
struct LiveMigrationArrival {
    RequestContext context;
    Instance instance;           // network_info is this host's: plugged, tap_name set
    std::string migration_uuid;  // names the handover, on both hosts
    std::string source_host;     // of instance.host when empty
    LiveMigrationPlan plan;
    std::string disks;                // of live_migration_disks(); empty unless block_migration
    std::vector<VolumeDisk> volumes;  // as they are connected here
};

struct LiveMigrationOptions {
    int64_t downtime_ms = 500;  // the goal; reached in so many steps, a step every so many seconds
    int64_t downtime_steps = 10;
    int64_t downtime_delay_s = 75;
    uint64_t bandwidth_bytes_s = 0;  // 0: no limit
    bool auto_converge = false;      // may slow the guest down
    bool post_copy = false;          // may run there before all of its memory has come
    int64_t parallel_connections = 1;
    // From the start of the copy, for the whole server; 0: no limit. Then:
    int64_t completion_timeout_s = 0;
    enum class TimeoutAction { Abort, ForceComplete };
    TimeoutAction timeout_action = TimeoutAction::Abort;
};

// Source: the move itself.
struct LiveMigrationDeparture {
    std::string migration_uuid;
    std::string arrival;  // what pre_live_migration() returned
    LiveMigrationPlan plan;
    LiveMigrationOptions options;
};

// Bytes; -1: not known, or (remaining_ms) never at this rate.
struct LiveMigrationProgress {
    std::string phase;  // connecting, checking, copying, switching, post_copy, waiting, ...
    int64_t memory_total = 0;
    int64_t memory_processed = 0;
    int64_t memory_remaining = 0;
    int64_t disk_total = 0;
    int64_t disk_processed = 0;
    int64_t disk_remaining = 0;
    int64_t dirty_rate_bytes_s = -1;
    int64_t bandwidth_bytes_s = -1;
    int64_t expected_downtime_ms = -1;
    int64_t remaining_ms = -1;
    int64_t downtime_ms = -1;  // once it is over
    int64_t throttle_percent = 0;
    std::string verdict;  // for people: whether it converges, and what would help if not
};

// Whoever follows a migration. Called by threads of the driver, one at a time, while
// live_migration() blocks; must not call the driver.
class LiveMigrationObserver {
public:
    virtual ~LiveMigrationObserver() = default;
    // At each change of phase, and about once a second.
    virtual void progress(const LiveMigrationProgress& progress) = 0;
    // At most once: the guest has stopped here and its network must lead to the other host from
    // now on. The guest does not wait for this to return. Stayed may still follow: then its network
    // has to come back.
    virtual void switched_over() = 0;
};

// How live_migration() ended.
struct LiveMigrationOutcome {
    enum class Kind {
        Completed,  // the guest is the other host's for good; what is here waits for leave()
        Stayed,     // it is this host's, as before
        // The handover is committed or may be, and the other host cannot be asked. Nobody may roll
        // it back or finish it: live_migration_outcome() tells once it is decided.
        Unknown,
    };
    Kind kind = Kind::Stayed;
    bool cancelled = false;      // Stayed since somebody aborted it
    std::optional<Error> error;  // why not Completed

    static LiveMigrationOutcome completed() { return {Kind::Completed, false, std::nullopt}; }
    static LiveMigrationOutcome stayed(Error why) { return {Kind::Stayed, false, std::move(why)}; }
    static LiveMigrationOutcome aborted(Error why) { return {Kind::Stayed, true, std::move(why)}; }
    static LiveMigrationOutcome unknown(Error why) {
        return {Kind::Unknown, false, std::move(why)};
    }
};

// Whose a guest is, as this host knows it (handover.md); the answer to live_migration_outcome().
enum class GuestOwner {
    Here,       // this host's, running or not; no migration of it is under way
    Departing,  // this host's, and a migration from here goes on: follow_live_migration()
    Gone,       // the other host's for good; what is left here can go
    Incoming,   // the other host's still; this one waits for it, or has part of it
    Undecided,  // nobody can tell yet: the other host has to be asked again
    Absent,     // there is no such guest here and nothing is known of a migration
};

// The same words in logs and messages.
std::string_view to_string(GuestOwner owner);

// Nova's exception for a server that cannot go; `reasons`: all of them.
Error migration_pre_check_error(const std::vector<std::string>& reasons);

}  // namespace kumoi::compute
