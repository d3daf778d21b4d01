// ComputeApi: a node's verbs as its callers see them; the in-process twin of Nova's compute RPC API
// (nova/compute/rpcapi.py names). The conductor calls it; ComputeManager implements it; later the
// AMQP front end calls the same methods.
//
// The "cast" verbs only queue the work (per server, one at a time, in order) and return an error
// when the node cannot even queue it; their outcome is written through ConductorApi. "call" verbs
// answer. Callers set task_state before they cast; the manager clears it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/block_device.h"
#include "compute/manager/conductor_api.h"
#include "compute/manager/console.h"
#include "compute/manager/live_migrate_data.h"
#include "compute/manager/move_request.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct BuildRequest {
    RequestContext context;
    Instance instance;  // host and node already set; vm_state building, task_state null
    std::vector<RequestedNetwork> requested_networks;
    std::map<std::string, std::string> injected_files;  // path -> content (personality, < 2.57)
    std::vector<BlockDevice> block_devices;             // as they are recorded
};

// What else a verb needs is in instance.task_arguments; only secrets travel beside the record.
struct RebuildRequest {
    RequestContext context;
    std::string uuid;
    std::string admin_password;
};

struct RescueRequest {
    RequestContext context;
    std::string uuid;
    std::string admin_password;
};

struct AttachInterfaceRequest {
    RequestContext context;
    std::string uuid;
    RequestedNetwork requested;  // neither network nor port: the project's only network
};

struct ReserveDeviceRequest {
    RequestContext context;
    std::string uuid;
    std::string volume_id;
    std::string device_name;  // empty: the next free one
    std::string disk_bus;
    std::string device_type;
    std::string tag;
};

struct SwapVolumeRequest {
    RequestContext context;
    std::string uuid;
    std::string old_volume_id;
    std::string new_volume_id;
    std::string new_attachment_id;
};

struct SetPasswordRequest {
    RequestContext context;
    std::string uuid;
    std::string password;
};

enum class RebootType { Soft, Hard };

// What another service says about a server.
struct ServerEvent {
    enum class Kind { NetworkChanged, VifDeleted, PowerOn, PowerOff, VolumeExtended };
    Kind kind = Kind::NetworkChanged;
    std::string port_id = {};  // of VifDeleted; of VolumeExtended the volume
};

class ComputeApi {
public:
    virtual ~ComputeApi() = default;

    // casts
    virtual Result<void> build_and_run_instance(BuildRequest request) = 0;
    virtual Result<void> terminate_instance(const RequestContext& context,
                                            const std::string& uuid) = 0;
    virtual Result<void> start_instance(const RequestContext& context, const std::string& uuid) = 0;
    virtual Result<void> stop_instance(const RequestContext& context, const std::string& uuid,
                                       bool clean_shutdown) = 0;
    virtual Result<void> reboot_instance(const RequestContext& context, const std::string& uuid,
                                         RebootType type) = 0;
    virtual Result<void> pause_instance(const RequestContext& context, const std::string& uuid) = 0;
    virtual Result<void> unpause_instance(const RequestContext& context,
                                          const std::string& uuid) = 0;
    virtual Result<void> suspend_instance(const RequestContext& context,
                                          const std::string& uuid) = 0;
    virtual Result<void> resume_instance(const RequestContext& context,
                                         const std::string& uuid) = 0;
    virtual Result<void> rescue_instance(RescueRequest request) = 0;
    virtual Result<void> unrescue_instance(const RequestContext& context,
                                           const std::string& uuid) = 0;
    virtual Result<void> rebuild_instance(RebuildRequest request) = 0;
    virtual Result<void> snapshot_instance(const RequestContext& context,
                                           const std::string& uuid) = 0;
    virtual Result<void> backup_instance(const RequestContext& context,
                                         const std::string& uuid) = 0;
    // The whole of Nova's prep_resize, resize_instance and finish_resize, on one host.
    virtual Result<void> resize_instance(const RequestContext& context,
                                         const std::string& uuid) = 0;
    virtual Result<void> confirm_resize(const RequestContext& context, const std::string& uuid) = 0;
    virtual Result<void> revert_resize(const RequestContext& context, const std::string& uuid) = 0;
    virtual Result<void> shelve_instance(const RequestContext& context,
                                         const std::string& uuid) = 0;
    virtual Result<void> shelve_offload_instance(const RequestContext& context,
                                                 const std::string& uuid) = 0;
    // host and node are already set.
    virtual Result<void> unshelve_instance(const RequestContext& context,
                                           const std::string& uuid) = 0;
    virtual Result<void> soft_delete_instance(const RequestContext& context,
                                              const std::string& uuid) = 0;
    virtual Result<void> restore_instance(const RequestContext& context,
                                          const std::string& uuid) = 0;

    virtual Result<void> detach_interface(const RequestContext& context, const std::string& uuid,
                                          const std::string& port_id) = 0;

    // Of a volume with a record and a reserving attachment.
    virtual Result<void> attach_volume(const RequestContext& context, const std::string& uuid,
                                       const BlockDevice& device) = 0;
    virtual Result<void> detach_volume(const RequestContext& context, const std::string& uuid,
                                       const std::string& volume_id,
                                       const std::string& attachment_id) = 0;
    virtual Result<void> swap_volume(const SwapVolumeRequest& request) = 0;
    // A step of a move between hosts.
    virtual Result<void> move_instance(MoveRequest request) {
        return Error::unsupported("server {} cannot leave its host here", request.uuid)
            .with_fault("NotImplementedError");
    }

    // Live migration, in Nova's chain (docs/reference/live-migration.md). Casts to the source:
    virtual Result<void> live_migration(LiveMigrationRequest request) {
        return no_live_migration(request.uuid);
    }
    // InvalidMigrationState: this migration is not under way, or too far.
    virtual Result<void> live_migration_abort(const RequestContext& context,
                                              const std::string& uuid, int64_t migration_id) {
        (void)context, (void)migration_id;
        return no_live_migration(uuid);
    }
    virtual Result<void> live_migration_force_complete(const RequestContext& context,
                                                       const std::string& uuid) {
        (void)context;
        return no_live_migration(uuid);
    }
    // ... and to the destination:
    virtual Result<void> rollback_live_migration_at_destination(const RequestContext& context,
                                                                const std::string& uuid,
                                                                bool destroy_disks,
                                                                const LiveMigrateData& data) {
        (void)context, (void)destroy_disks, (void)data;
        return no_live_migration(uuid);
    }
    // Calls to the destination, the source, the destination:
    virtual Result<LiveMigrateData> check_can_live_migrate_destination(
        const LiveMigrationCheck& request) {
        return no_live_migration(request.uuid);
    }
    virtual Result<LiveMigrateData> check_can_live_migrate_source(const RequestContext& context,
                                                                  const std::string& uuid,
                                                                  const LiveMigrateData& data) {
        (void)context, (void)data;
        return no_live_migration(uuid);
    }
    // `disks`: of the source's driver; empty unless they are copied.
    virtual Result<LiveMigrateData> pre_live_migration(const RequestContext& context,
                                                       const std::string& uuid,
                                                       const std::string& disks,
                                                       const LiveMigrateData& data) {
        (void)context, (void)disks, (void)data;
        return no_live_migration(uuid);
    }
    virtual Result<void> post_live_migration_at_destination(const RequestContext& context,
                                                            const std::string& uuid,
                                                            bool block_migration) {
        (void)context, (void)block_migration;
        return no_live_migration(uuid);
    }

    // Whether another host's file is in this node's folder of servers too (VirtDriver::has_probe).
    virtual bool has_probe(const std::string& name) {
        (void)name;
        return false;
    }

    // Not an error: a server that is not here any more. Several NetworkChanged make one refresh.
    virtual Result<void> external_instance_event(const RequestContext& context,
                                                 const std::string& uuid,
                                                 const ServerEvent& event) = 0;

    // calls
    // Queued like a cast, and answered with the interface as the server has it now.
    virtual Result<VifInfo> attach_interface(const AttachInterfaceRequest& request) = 0;
    // Makes the record of a volume that is to be attached next.
    virtual Result<BlockDevice> reserve_block_device_name(const ReserveDeviceRequest& request) = 0;
    // This host's side alone; absent is fine.
    virtual Result<void> remove_volume_connection(const RequestContext& context,
                                                  const std::string& uuid,
                                                  const std::string& volume_id,
                                                  bool delete_attachment) = 0;
    // task_state is updating_password; an error's fault says what Nova's callers expect.
    virtual Result<void> set_admin_password(const SetPasswordRequest& request) {
        return Error::unsupported("Server {} gets no password here", request.uuid)
            .with_fault("SetAdminPasswdNotSupported");
    }
    // The guest's file systems stand still until unquiesce_instance(), which may be told of
    // snapshots of volumes that must be there first.
    virtual Result<void> quiesce_instance(const RequestContext& context, const std::string& uuid) {
        (void)context;
        return Error::unsupported("Quiescing is not supported in instance {}", uuid)
            .with_fault("InstanceQuiesceNotSupported");
    }
    virtual Result<void> unquiesce_instance(const RequestContext& context, const std::string& uuid,
                                            const std::vector<std::string>& snapshot_ids) {
        (void)context, (void)snapshot_ids;
        return Error::unsupported("Quiescing is not supported in instance {}", uuid)
            .with_fault("InstanceQuiesceNotSupported");
    }
    // The last `tail_lines` lines (negative: all that is kept).
    virtual Result<std::string> get_console_output(const RequestContext& context,
                                                   const std::string& uuid, int64_t tail_lines) = 0;
    // InstanceNotReady: it does not run. ConsoleTypeUnavailable: it has no such console.
    virtual Result<ConsoleConnection> get_vnc_console(const RequestContext& context,
                                                      const std::string& uuid) = 0;
    virtual Result<ConsoleConnection> get_serial_console(const RequestContext& context,
                                                         const std::string& uuid) = 0;
    // Nova's Diagnostics object, microversion 2.48 layout.
    virtual Result<Json> get_instance_diagnostics(const RequestContext& context,
                                                  const std::string& uuid) = 0;
    virtual Result<double> get_host_uptime() = 0;  // seconds
    virtual ComputeNode compute_node() = 0;        // last measured inventory and use

private:
    static Error no_live_migration(const std::string& uuid) {
        return migration_pre_check_error({"server " + uuid + " is on a node without it"});
    }
};

}  // namespace kumoi::compute
