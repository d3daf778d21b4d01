// KumoiVmmDriver: the virt driver contract over kumoi-vmm processes, one a server. Every server is
// a folder of files (docs/reference/instance-folder.md); the processes live in sessions of their
// own, so that this daemon may die and find them again. Any thread; calls for one server never
// overlap.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "base/config.h"
#include "base/random.h"
#include "compute/driver/cpu_pinning.h"
#include "compute/driver/disk_leases.h"
#include "compute/driver/disk_transfer.h"
#include "compute/driver/guest_agent_channel.h"
#include "compute/driver/guest_cgroup.h"
#include "compute/driver/guest_config.h"
#include "compute/driver/guest_interfaces.h"
#include "compute/driver/guest_monitor.h"
#include "compute/driver/guest_process.h"
#include "compute/driver/live_checks.h"
#include "compute/driver/live_disks.h"
#include "compute/driver/live_moves.h"
#include "compute/driver/migration_fence.h"
#include "compute/driver/root_disk.h"
#include "compute/driver/upgrade_report.h"
#include "compute/driver/virt_driver.h"
#include "compute/images/image_cache.h"
#include "compute/manager/instance_metadata.h"

namespace kumoi::compute {

struct KumoiDriverOptions {
    std::string instances_path;
    GuestProcessOptions process;
    GuestOptions guest;
    CpuPools cpus;
    std::string cgroup_parent;       // of the guests' control groups; empty: none
    int64_t guest_overhead_mib = 0;  // memory of a guest beside its RAM; 0: not limited
    bool force_config_drive = false;
    std::string dhcp_domain = "novalocal";
    std::string snapshot_image_format = "qcow2";
    RootDiskOptions disk;
    bool force_raw_images = true;             // linked clones: the image becomes raw first
    int64_t backup_timeout_ms = 60 * 60'000;  // of one copy of a running guest's disk
    int64_t save_timeout_ms = 30 * 60'000;    // of one suspend
    DetachOptions detach;
    DiskTransferOptions transfer;
    LiveMoveOptions live;
    DiskLeases leases;
    GuestAgentOptions agent;
    int64_t soft_reboot_timeout_s = 120;  // then the reboot becomes a hard one, as in Nova

    static Result<KumoiDriverOptions> from_config(const Config& config);
};

class KumoiVmmDriver final : public VirtDriver, public MigrationFence {
public:
    KumoiVmmDriver(KumoiDriverOptions options, ImageApi& images, ImageCache& cache,
                   const Clock& clock, Random& random);

    Result<void> init_host(const std::string& host) override;
    void set_event_listener(std::function<void(const LifecycleEvent&)> listener) override;
    Result<void> spawn(const SpawnRequest& request) override;
    Result<void> destroy(const Instance& instance) override;
    Result<void> power_on(const Instance& instance) override;
    Result<void> power_off(const Instance& instance, int64_t timeout_s) override;
    Result<void> reboot(const Instance& instance, RebootType type) override;
    Result<void> pause(const Instance& instance) override;
    Result<void> unpause(const Instance& instance) override;
    // To every processor of a running guest: what its kernel does is up to it (a crash dump).
    Result<void> inject_nmi(const Instance& instance);
    // The guest goes on in the installed kumoi-vmm, if it runs in another. In kumoi_vmm_upgrade.cc
    Result<UpgradeReport> upgrade_guest(const std::string& uuid, bool dry_run);
    Result<void> suspend(const Instance& instance) override;
    Result<void> resume(const Instance& instance) override;
    Result<std::unique_ptr<DiskSnapshot>> snapshot(const Instance& instance) override;
    // In kumoi_vmm_agent.cc
    Result<void> set_admin_password(const Instance& instance, const std::string& password) override;
    Result<void> quiesce(const Instance& instance) override;
    Result<void> unquiesce(const Instance& instance) override;
    Result<void> rescue(const RescueSpec& spec) override;
    Result<void> unrescue(const Instance& instance, bool power_on) override;
    Result<void> rebuild(const SpawnRequest& request, bool preserve_ephemeral) override;
    Result<void> migrate_disk_and_power_off(const Instance& instance, const Flavor& new_flavor,
                                            int64_t timeout_s) override;
    Result<void> finish_migration(const Instance& instance, bool power_on) override;
    Result<void> confirm_migration(const Instance& instance) override;
    Result<void> finish_revert_migration(const Instance& instance, bool power_on) override;
    Result<std::string> migrate_disk_away(const Instance& instance, const Flavor& new_flavor,
                                          const std::string& migration_uuid, bool shared,
                                          int64_t timeout_s) override;
    Result<void> receive_disk(const Instance& instance, const std::string& disk_info) override;
    Result<void> leave(const Instance& instance, bool keep_disks) override;
    bool has_disks(const Instance& instance) override;
    Result<std::vector<std::string>> list_kept_uuids() override;
    Result<std::string> make_probe() override;
    bool has_probe(const std::string& name) override;
    void remove_probe(const std::string& name) override;
    // In kumoi_vmm_live.cc
    Result<std::string> live_migration_facts(const Instance& instance) override;
    void discard_live_migration_facts(const std::string& facts) override;
    Result<LiveMigrationPlan> check_live_migration(const Instance& instance,
                                                   const LiveMigrationQuestion& question) override;
    Result<std::string> live_migration_disks(const Instance& instance) override;
    Result<std::string> pre_live_migration(const LiveMigrationArrival& arrival) override;
    LiveMigrationOutcome live_migration(const Instance& instance,
                                        const LiveMigrationDeparture& departure,
                                        LiveMigrationObserver& observer) override;
    LiveMigrationOutcome follow_live_migration(const Instance& instance,
                                               const LiveMigrationOptions& options,
                                               LiveMigrationObserver& observer) override;
    Result<void> abort_live_migration(const Instance& instance) override;
    Result<void> force_complete_live_migration(const Instance& instance) override;
    Result<void> finish_live_migration(const Instance& instance) override;
    Result<void> rollback_live_migration(const Instance& instance, bool destroy_disks) override;
    Result<GuestOwner> live_migration_outcome(const Instance& instance) override;
    Result<std::vector<std::string>> list_arrival_uuids() override { return live_.arrivals(); }
    Result<void> fence_live_migration(const Instance& instance) override {
        return live_.fence(instance.uuid);
    }
    Result<void> attach_interface(const Instance& instance, const VifInfo& vif) override;
    Result<void> detach_interface(const Instance& instance, const VifInfo& vif) override;
    Result<void> set_volumes(const Instance& instance,
                             const std::vector<VolumeDisk>& volumes) override;
    Result<std::vector<DiskPlace>> disk_places(const Instance& instance,
                                               const std::vector<VolumeDisk>& volumes) override;
    Result<void> attach_volume(const Instance& instance, const VolumeDisk& volume) override;
    Result<void> detach_volume(const Instance& instance, const std::string& volume_id) override;
    Result<void> reconnect_volume(const Instance& instance, const std::string& volume_id) override;
    Result<void> rename_volume(const Instance& instance, const std::string& volume_id,
                               const std::string& new_volume_id) override;
    Result<InstanceInfo> get_info(const Instance& instance) override;
    Result<std::vector<std::string>> list_instance_uuids() override;
    Result<std::string> get_console_output(const Instance& instance, int64_t tail_lines) override;
    Result<std::string> get_vnc_console(const Instance& instance) override;
    Result<std::string> get_serial_console(const Instance& instance) override;
    Result<Json> get_instance_diagnostics(const Instance& instance) override;
    Result<HostResources> get_available_resource() override;
    void manage_image_cache() override;

private:
    InstanceFolder folder_of(const Instance& instance) const;
    Result<InstanceFolder> existing_folder(const Instance& instance) const;
    GuestProcess process_of(const InstanceFolder& folder) const;
    Result<InstanceFolder> running_folder(const Instance& instance) const;
    std::string snapshots_path() const { return options_.instances_path + "/_snapshots"; }
    Result<void> build_folder(const SpawnRequest& request, const InstanceFolder& folder);
    Result<void> make_extra_disks(const Flavor& flavor, const InstanceFolder& folder) const;
    Result<void> build_rescue(const RescueSpec& spec, const InstanceFolder& folder);
    Result<void> remove_rescue(const InstanceFolder& folder) const;
    Result<CachedImage> fetch_disk_image(const RequestContext& context, const ImageMeta& image);
    // A copy of the root disk as it is at one instant, without backing file.
    Result<void> copy_disk(const Instance& instance, const InstanceFolder& folder,
                           const RootDisk& disk, const std::string& to);
    Result<std::string> agent_socket(const Instance& instance) const;
    Result<std::unique_ptr<FrozenGuest>> freeze_for_snapshot(const Instance& instance);
    Result<void> set_power(const Instance& instance, const InstanceFolder& folder, bool on);
    Result<void> fetch_kernel(const SpawnRequest& request, const InstanceFolder& folder);
    Result<void> save_state(const GuestProcess& process, const InstanceFolder& folder) const;
    // Until the file is whole and the guest stands still.
    Result<void> write_state(const GuestProcess& process, const std::string& path, int file) const;
    Result<void> fetch_boot_file(const RequestContext& context, const std::string& image_id,
                                 const std::string& to);
    Result<void> write_config_drive(const SpawnRequest& request, const std::string& to);
    // Before a process is started.
    Result<void> claim_disks(const Instance& instance, const InstanceFolder& folder);
    // Not `leased`: its process takes no leases, whatever is configured.
    Result<void> write_configs(const Instance& instance, const InstanceFolder& folder,
                               bool leased = true);
    Result<GuestFiles> files_of(const InstanceFolder& folder) const;
    // guest.json of the other servers, where a guest with processors of its own must know them.
    Result<std::vector<Json>> other_guests(const Instance& instance);
    Result<void> start_guest(const Instance& instance, const InstanceFolder& folder);
    Result<void> attach_now(const InstanceFolder& folder, const VifInfo& vif) const;
    Result<void> make_root(const SpawnRequest& request, const InstanceFolder& folder);
    Result<void> plug_volume(const InstanceFolder& folder, const std::string& volume_id) const;
    // Starts the process in the guest's control group.
    Result<void> watch_guest(const Instance& instance, const InstanceFolder& folder);
    Result<void> start_process(const Instance& instance, const InstanceFolder& folder,
                               const std::vector<std::string>& more);
    Result<void> stop_guest(const Instance& instance, const InstanceFolder& folder);
    Result<void> load_offers();
    void settle_upgrade(const InstanceFolder& folder, const std::string& uuid);
    LiveFacts live_facts() const;
    Result<LiveSubject> live_subject(const Instance& instance, const LiveFacts& there);
    Result<void> build_arrival(const LiveMigrationArrival& arrival, const LiveDisks& disks);
    // guest.json of the machine that waits for a guest, with its process's files where they are.
    // `epoch`: under which the source holds leases.
    Result<void> write_arrival(const Instance& instance, const LiveFolder& folder, bool shared,
                               uint64_t epoch);
    Result<void> start_arrival(const LiveFolder& folder, const LiveNote& note, const Json& terms);
    LiveMigrationOutcome end_departure(const Instance& instance, LiveMigrationOutcome outcome);
    Result<void> settle_in(const Instance& instance, const InstanceFolder& folder);
    // Presses the power button; false when the guest does not listen to it.
    Result<bool> press_power_button(const InstanceFolder& folder) const;
    // True when the guest turned itself off in time.
    Result<bool> shut_down(const InstanceFolder& folder, int64_t timeout_s) const;

    const KumoiDriverOptions options_;
    ImageApi& images_;
    ImageCache& cache_;
    const Clock& clock_;
    Random& random_;
    GuestMonitor monitor_;
    GuestCgroups cgroups_;
    DiskTransfer transfer_;
    std::mutex cpus_mutex_;  // between choosing processors and writing guest.json
    LiveMoves live_;         // last: what comes through its door uses the others
};

}  // namespace kumoi::compute
