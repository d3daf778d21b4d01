// MoveRecords: what is recorded beside a server's own record while it moves between hosts, and what
// hosts say to each other then (mode = openstack; a standalone cloud has none of it). Words and
// order are those of Nova's resize chain: prep_resize on the destination, resize_instance on the
// source, finish_resize on the destination; then confirm_resize on the source, or revert_resize on
// the destination and finish_revert_resize on the source. Any thread; blocks for round trips.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "compute/manager/conductor_api.h"
#include "compute/objects.h"

namespace kumoi::compute {

// The host at one end of a migration.
enum class MoveEnd { Source, Destination };

// Casts from host to host.
enum class MoveCast { ResizeInstance, FinishResize, FinishRevertResize };

// A server that went to another host while this one was down.
struct EvacuatedServer {
    std::string uuid;
    std::string migration_uuid;
    std::string host;   // where it is now; empty when its record is gone
    bool done = false;  // the other host has it; else it is at it
};

class MoveRecords {
public:
    virtual ~MoveRecords() = default;

    // The one that came with the newest request, else the newest of the server. NotFound: none.
    // `fresh`: with its status as it is recorded now.
    virtual Result<Migration> migration(const std::string& uuid, bool fresh = false) = 0;
    // Only nodes of our kind understand our disks. Unsupported when that host is of another.
    virtual Result<void> check_peer(const std::string& host, const std::string& node) = 0;
    // What prep_resize and evacuation record: this node is the migration's destination, and the
    // server remembers what it had. prep_resize's new flavor is recorded with `update`.
    virtual Result<void> prepare(const std::string& uuid, const InstanceUpdate& update,
                                 const std::string& host, const std::string& host_ip) = 0;
    // instance_save(), and the server is of that end's host from now on.
    virtual Result<void> save_host(const std::string& uuid, const InstanceUpdate& update,
                                   MoveEnd end) = 0;
    virtual Result<void> drop_context(const std::string& uuid) = 0;

    virtual Result<void> cast(const std::string& uuid, MoveCast what,
                              const std::string& disk_info) = 0;
    // prep_resize failed here: conductor tries the next host. Unsupported: there may be none.
    virtual Result<void> reschedule(const RequestContext& context, const std::string& uuid,
                                    const Error& reason) = 0;
    // Asks the host whether it sees this file of ours in its own instances_path.
    virtual Result<bool> sees_file(const std::string& uuid, const std::string& host,
                                   const std::string& name) = 0;

    // What the migration holds in Placement goes back to the server ...
    virtual Result<void> return_allocations(const std::string& uuid) = 0;
    // ... or away.
    virtual Result<void> drop_allocations(const std::string& uuid) = 0;
    // The server's part on this node's provider.
    virtual Result<void> drop_allocation_here(const std::string& uuid) = 0;

    virtual Result<std::vector<EvacuatedServer>> evacuated_from_here() = 0;
    virtual Result<void> evacuation_completed(const EvacuatedServer& server) = 0;
    // What a resource audit must count: `servers` are those recorded here. Of those that came from
    // elsewhere only the new flavor; besides, those on their way here or not confirmed there.
    virtual Result<void> count_moves(std::vector<Instance>& servers) = 0;
};

}  // namespace kumoi::compute
