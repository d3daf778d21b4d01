// VirtDriver: the driver contract in Nova's words (nova/virt/driver.py). Two implementations: the
// kumoi-vmm driver (one process per guest) and the simulated driver (in memory, with delays and
// failures from its configuration). Calls for one server never overlap (the manager queues per
// server); calls for different servers do. All may block.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/block_device.h"
#include "compute/device_tags.h"
#include "compute/manager/compute_api.h"
#include "compute/objects.h"

namespace kumoi::compute {

// live_migration.h
struct LiveMigrationArrival;
struct LiveMigrationDeparture;
struct LiveMigrationOptions;
struct LiveMigrationOutcome;
struct LiveMigrationPlan;
struct LiveMigrationQuestion;
class LiveMigrationObserver;
enum class GuestOwner;

struct InstanceInfo {
    int power_state = 0;      // vm_states.h
    int64_t cpu_time_ns = 0;  // of all vCPUs
};

struct HostResources {
    int64_t vcpus = 0;
    int64_t memory_mb = 0;
    int64_t memory_mb_used = 0;  // by the host itself and everything on it
    int64_t local_gb = 0;
    int64_t local_gb_free = 0;
    std::string cpu_info_json;  // Nova's cpu_info: arch, model, vendor, topology, features
};

// What a driver tells about a server without being asked (guest shut down, crashed, paused).
struct LifecycleEvent {
    std::string instance_uuid;
    enum class Kind { Started, Stopped, Paused, Resumed, Crashed, Rebooted } kind = Kind::Stopped;
    std::string detail;
};

struct SpawnRequest {
    RequestContext context;
    Instance instance;  // network_info filled, tap_name set
    std::map<std::string, std::string> injected_files;
    std::vector<VolumeDisk> volumes = {};    // one of them may be the root disk
    std::vector<TaggedDevice> devices = {};  // for the guest's metadata
};

// The root disk of a server as one flat image, extracted at one instant. Gone when destroyed.
class DiskSnapshot {
public:
    virtual ~DiskSnapshot() = default;
    virtual std::string disk_format() const = 0;  // raw, qcow2
    virtual uint64_t virtual_size() const = 0;    // bytes of the disk
    virtual Result<size_t> read(std::span<std::byte> buffer, uint64_t offset) = 0;  // 0: the end
};

struct RescueSpec {
    RequestContext context;
    Instance instance;  // tap names set
    ImageMeta image;    // what the rescue system boots from
    std::string admin_password;
};

class VirtDriver {
public:
    virtual ~VirtDriver() = default;

    virtual Result<void> init_host(const std::string& host) = 0;
    virtual void set_event_listener(std::function<void(const LifecycleEvent&)> listener) = 0;
    // At start: the servers that the records have on this host. For a driver whose guests end with
    // its process.
    virtual void recall_guests(const std::vector<Instance>& instances) { (void)instances; }

    virtual Result<void> spawn(const SpawnRequest& request) = 0;  // on error nothing is left behind
    virtual Result<void> destroy(
        const Instance& instance) = 0;  // stops and removes all; absent is fine
    virtual Result<void> power_on(const Instance& instance) = 0;
    // Asks the guest first when timeout_s > 0, then pulls the plug.
    virtual Result<void> power_off(const Instance& instance, int64_t timeout_s) = 0;
    virtual Result<void> reboot(const Instance& instance, RebootType type) = 0;
    virtual Result<void> pause(const Instance& instance) = 0;
    virtual Result<void> unpause(const Instance& instance) = 0;

    // Keeps the guest's whole state in a file and ends it; resume() runs on from there.
    virtual Result<void> suspend(const Instance& instance) = 0;
    virtual Result<void> resume(const Instance& instance) = 0;
    // Consistent as after a power cut, also of a running guest; with an agent in it, as after a
    // sync of all its file systems. An agent that does not freeze them fails it with
    // os_require_quiesce only.
    virtual Result<std::unique_ptr<DiskSnapshot>> snapshot(const Instance& instance) = 0;
    // Boots another image, with the server's own disks beside it; a guest that runs is stopped.
    // Repeating it starts over.
    virtual Result<void> rescue(const RescueSpec& spec) = 0;
    // Back to the server's own disk, running when power_on. Fine when it is not rescued.
    virtual Result<void> unrescue(const Instance& instance, bool power_on) = 0;
    // Makes the server anew from its image; what is here of it goes, absent is fine. Fetches the
    // image before anything is lost.
    virtual Result<void> rebuild(const SpawnRequest& request, bool preserve_ephemeral) = 0;

    // Resize on this host, in Nova's steps. The first stops the guest and keeps its disks aside;
    // the second makes the disks fit instance.flavor; then one of the last two. ResizeError before
    // anything is touched when a disk would have to shrink.
    virtual Result<void> migrate_disk_and_power_off(const Instance& instance,
                                                    const Flavor& new_flavor,
                                                    int64_t timeout_s) = 0;
    virtual Result<void> finish_migration(const Instance& instance, bool power_on) = 0;
    virtual Result<void> confirm_migration(const Instance& instance) = 0;
    // Fine at any point of a resize, and when there was none.
    virtual Result<void> finish_revert_migration(const Instance& instance, bool power_on) = 0;

    // A resize or cold migration to another host. The first, on the source, takes the place of
    // migrate_disk_and_power_off(): the guest ends, its disks are kept aside until
    // confirm_migration() or finish_revert_migration(), and the text returned tells the other host
    // how it gets them. Repeating it is fine. `shared`: that host sees the same folders.
    virtual Result<std::string> migrate_disk_away(const Instance& instance,
                                                  const Flavor& new_flavor,
                                                  const std::string& migration_uuid, bool shared,
                                                  int64_t timeout_s) {
        (void)new_flavor, (void)migration_uuid, (void)shared, (void)timeout_s;
        return Error::unsupported("Server {} cannot leave this host", instance.uuid)
            .with_fault("NotImplementedError");
    }
    // The second, on the destination, before finish_migration(): its disks come here. Empty
    // disk_info: as it was told before a crash.
    virtual Result<void> receive_disk(const Instance& instance, const std::string& disk_info) {
        (void)disk_info;
        return Error::unsupported("Server {} cannot come to this host", instance.uuid)
            .with_fault("NotImplementedError");
    }
    // The server is another host's: its guest ends here, and its disks go too unless that host
    // uses the same ones. Absent is fine.
    virtual Result<void> leave(const Instance& instance, bool keep_disks) {
        return keep_disks ? Result<void>() : destroy(instance);
    }
    // Does this host's folder of servers hold the server's disks already (evacuation)?
    virtual bool has_disks(const Instance& instance) {
        (void)instance;
        return false;
    }
    // Servers of which disks are kept aside here, by migrate_disk_away() or on this host.
    virtual Result<std::vector<std::string>> list_kept_uuids() {
        return std::vector<std::string>();
    }
    // For finding out whether two hosts see the same folders: a file with a name of its own, which
    // the other looks for. Empty: this driver's servers have no files.
    virtual Result<std::string> make_probe() { return std::string(); }
    virtual bool has_probe(const std::string& name) {
        (void)name;
        return false;
    }
    virtual void remove_probe(const std::string& name) { (void)name; }

    // Live migration; live_migration.h has the order of the calls. Abort, force and outcome come
    // while another thread is in live_migration() of the same server; else calls do not overlap.
    //
    // Destination: what the source must know of this host (CPU, board, version, address, a probe
    // file, free disk). Whoever got them discards them when the check is over; twice is fine.
    virtual Result<std::string> live_migration_facts(const Instance& instance);
    virtual void discard_live_migration_facts(const std::string& facts);
    // Source: compares all of it before a byte is sent. MigrationPreCheckError lists every reason;
    // InvalidSharedStorage and InvalidLocalStorage when only block_migration was asked for wrongly.
    virtual Result<LiveMigrationPlan> check_live_migration(const Instance& instance,
                                                           const LiveMigrationQuestion& question);
    // Source: sizes, formats and backing images of the disks that are copied.
    virtual Result<std::string> live_migration_disks(const Instance& instance);
    // Destination: makes the disks and the machine that waits for the guest. Returns where and how
    // it is reached (a secret of this migration). On error nothing is left behind; what an earlier
    // try of this server has left goes first.
    virtual Result<std::string> pre_live_migration(const LiveMigrationArrival& arrival);
    // Source: blocks until the guest is there, stays, or nobody can tell. Enforces the options'
    // completion timeout. A paused guest arrives paused.
    virtual LiveMigrationOutcome live_migration(const Instance& instance,
                                                const LiveMigrationDeparture& departure,
                                                LiveMigrationObserver& observer);
    // Source, after a restart of the daemon that found it Departing: as live_migration().
    virtual LiveMigrationOutcome follow_live_migration(const Instance& instance,
                                                       const LiveMigrationOptions& options,
                                                       LiveMigrationObserver& observer);
    // Source: both only ask; live_migration() tells what came of it. Conflict: it is too late, or
    // there is no migration (InvalidMigrationState).
    virtual Result<void> abort_live_migration(const Instance& instance);
    virtual Result<void> force_complete_live_migration(const Instance& instance);
    // Destination: the guest is this host's; it becomes an ordinary one. Repeating is fine.
    virtual Result<void> finish_live_migration(const Instance& instance);
    // Destination: what waits for the guest goes, and its disks when they are this host's own.
    // Absent is fine. Conflict while the guest is or may be this host's: then nothing is touched.
    virtual Result<void> rollback_live_migration(const Instance& instance, bool destroy_disks);
    // Destination: guests that wait here, or have come and were not finished.
    virtual Result<std::vector<std::string>> list_arrival_uuids() {
        return std::vector<std::string>();
    }
    // Both: whose the guest is. Asks the other host where that is needed; nothing is changed but
    // what it decides (handover.md), and Here, Gone and Absent are final.
    virtual Result<GuestOwner> live_migration_outcome(const Instance& instance);

    // A network card for a guest that runs, or stands still, or for when it is started. The TAP is
    // there; instance.network_info holds `vif`. On error nothing is left behind; repeating is fine.
    virtual Result<void> attach_interface(const Instance& instance, const VifInfo& vif) = 0;
    // Waits for the guest to let go and asks again a few times; InterfaceDetachFailed when it never
    // does. Absent is fine.
    virtual Result<void> detach_interface(const Instance& instance, const VifInfo& vif) = 0;

    // Volumes, whose back ends run. All that the server has from its next start on; known ones keep
    // their places. attach, detach and their errors as with network cards (DeviceDetachFailed).
    virtual Result<void> set_volumes(const Instance& instance,
                                     const std::vector<VolumeDisk>& volumes) = 0;
    virtual Result<void> attach_volume(const Instance& instance, const VolumeDisk& volume) = 0;
    virtual Result<void> detach_volume(const Instance& instance, const std::string& volume_id) = 0;
    // Where each disk of the server is in its guest, or will be with these volumes.
    virtual Result<std::vector<DiskPlace>> disk_places(const Instance& instance,
                                                       const std::vector<VolumeDisk>& volumes) {
        (void)instance, (void)volumes;
        return std::vector<DiskPlace>();
    }
    // Its back end was started anew: a running guest gets a new connection to it.
    virtual Result<void> reconnect_volume(const Instance& instance,
                                          const std::string& volume_id) = 0;
    // A volume took another's place behind the same socket.
    virtual Result<void> rename_volume(const Instance& instance, const std::string& volume_id,
                                       const std::string& new_volume_id) = 0;

    // Through the agent in a running guest. QemuGuestAgentNotEnabled: the server has no channel for
    // one; NotImplementedError: nobody answers on it.
    virtual Result<void> set_admin_password(const Instance& instance, const std::string& password) {
        (void)password;
        return Error::unsupported("Server {} has no agent that could set a password", instance.uuid)
            .with_fault("SetAdminPasswdNotSupported");
    }
    // Its file systems stand still, or go on. snapshot() does both by itself.
    virtual Result<void> quiesce(const Instance& instance) {
        return Error::unsupported("Quiescing is not supported in instance {}", instance.uuid)
            .with_fault("InstanceQuiesceNotSupported");
    }
    virtual Result<void> unquiesce(const Instance& instance) {
        return Error::unsupported("Quiescing is not supported in instance {}", instance.uuid)
            .with_fault("InstanceQuiesceNotSupported");
    }

    virtual Result<InstanceInfo> get_info(
        const Instance& instance) = 0;  // NotFound: not on this host
    virtual Result<std::vector<std::string>> list_instance_uuids() = 0;
    virtual Result<std::string> get_console_output(const Instance& instance,
                                                   int64_t tail_lines) = 0;
    // Paths of unix sockets. InstanceNotReady: it does not run.
    virtual Result<std::string> get_vnc_console(const Instance& instance) = 0;
    virtual Result<std::string> get_serial_console(const Instance& instance) = 0;
    virtual Result<Json> get_instance_diagnostics(const Instance& instance) = 0;
    virtual Result<HostResources> get_available_resource() = 0;
    // Now and then: frees what no spawn wanted for long.
    virtual void manage_image_cache() {}
};

}  // namespace kumoi::compute
