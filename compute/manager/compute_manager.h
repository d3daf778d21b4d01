// ComputeManager: the verbs of one node, with Nova's names and semantics. Each cast puts a task on
// its server's queue; the tasks live in files of their own (spawn_task, terminate_task,
// power_tasks, reboot_task, ...), what every verb shares is in verb.h.
//
// Threads: verbs may be called from any thread. Tasks run on a pool of workers, periodic work and
// answers to the driver's events on it or on two housekeeping threads, so that a node full of slow
// builds still shows signs of life. The timers live on the given loop.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "base/event_loop.h"
#include "base/worker_pool.h"
#include "compute/manager/compute_api.h"
#include "compute/manager/live_migrations.h"
#include "compute/manager/server_queue.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/verb.h"
#include "compute/manager/volume_recovery.h"

namespace kumoi::compute {

class ComputeManager final : public ComputeApi {
public:
    // Threads that many managers of one process share: for verbs, and for periodic work. Whoever
    // made them joins them after stop() and before the managers are destroyed.
    struct Pools {
        WorkerPool& verbs;
        WorkerPool& housekeeping;
    };
    // What it needs from others; all of it outlives the manager.
    struct Borders {
        ConductorApi& conductor;
        NetworkApi& network;
        VifDriver& vifs;
        VirtDriver& driver;
        const Clock& clock;
        ImageApi& images;
        ExternalEvents* events = nullptr;           // of Neutron; null in a standalone cloud
        std::optional<Pools> pools = std::nullopt;  // none: threads of its own
        VolumeServices* volumes = nullptr;          // Cinder's; null in a standalone cloud
        HostTasks* tasks = nullptr;                 // where Nova keeps the records; null standalone
        MoveRecords* moves = nullptr;               // null where servers never leave their host
        CloudRecords* cloud = nullptr;              // null standalone
        LiveMigrationRecords* live = nullptr;       // null where servers cannot move while they run
    };

    // Opens the journal and the compute id below options.state_path; touches no server yet.
    // `executor`: tests run tasks in their own thread; none: a pool of workers.
    static Result<std::unique_ptr<ComputeManager>> create(const Borders& borders,
                                                          ManagerOptions options,
                                                          JournalOptions journal_options = {},
                                                          ServerQueue::Executor executor = {});
    ~ComputeManager() override;

    // Recovers from the last run, then accepts verbs. Blocks.
    Result<void> init_host();
    // Starts heartbeat, resource audit and power sync. Before loop.run(), or on its thread; the
    // loop must stop before the manager is destroyed. Each runs first after `first_period` times
    // its interval, so that many nodes of a process do not all work at the same moment.
    void start_periodic_tasks(EventLoop& loop, double first_period = 1);
    // Refuses new verbs, lets running ones end. Guests go on.
    void stop();
    void wait_idle() { queue_.wait_idle(); }

    Result<void> build_and_run_instance(BuildRequest request) override;
    Result<void> terminate_instance(const RequestContext& context,
                                    const std::string& uuid) override;
    Result<void> start_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> stop_instance(const RequestContext& context, const std::string& uuid,
                               bool clean_shutdown) override;
    Result<void> reboot_instance(const RequestContext& context, const std::string& uuid,
                                 RebootType type) override;
    Result<void> pause_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> unpause_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> suspend_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> resume_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> rescue_instance(RescueRequest request) override;
    Result<void> unrescue_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> rebuild_instance(RebuildRequest request) override;
    Result<void> snapshot_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> backup_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> resize_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> confirm_resize(const RequestContext& context, const std::string& uuid) override;
    Result<void> revert_resize(const RequestContext& context, const std::string& uuid) override;
    Result<void> shelve_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> shelve_offload_instance(const RequestContext& context,
                                         const std::string& uuid) override;
    Result<void> unshelve_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> soft_delete_instance(const RequestContext& context,
                                      const std::string& uuid) override;
    Result<void> restore_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> detach_interface(const RequestContext& context, const std::string& uuid,
                                  const std::string& port_id) override;
    Result<void> attach_volume(const RequestContext& context, const std::string& uuid,
                               const BlockDevice& device) override;
    Result<void> detach_volume(const RequestContext& context, const std::string& uuid,
                               const std::string& volume_id,
                               const std::string& attachment_id) override;
    Result<void> swap_volume(const SwapVolumeRequest& request) override;
    Result<BlockDevice> reserve_block_device_name(const ReserveDeviceRequest& request) override;
    Result<void> remove_volume_connection(const RequestContext& context, const std::string& uuid,
                                          const std::string& volume_id,
                                          bool delete_attachment) override;
    // The back end of a volume was started anew. Any thread.
    void volume_restarted(const std::string& uuid, const std::string& volume_id);
    Result<void> move_instance(MoveRequest request) override;
    Result<void> live_migration(LiveMigrationRequest request) override;
    Result<void> live_migration_abort(const RequestContext& context, const std::string& uuid,
                                      int64_t migration_id) override;
    Result<void> live_migration_force_complete(const RequestContext& context,
                                               const std::string& uuid) override;
    Result<void> rollback_live_migration_at_destination(const RequestContext& context,
                                                        const std::string& uuid, bool destroy_disks,
                                                        const LiveMigrateData& data) override;
    Result<LiveMigrateData> check_can_live_migrate_destination(
        const LiveMigrationCheck& request) override;
    Result<LiveMigrateData> check_can_live_migrate_source(const RequestContext& context,
                                                          const std::string& uuid,
                                                          const LiveMigrateData& data) override;
    Result<LiveMigrateData> pre_live_migration(const RequestContext& context,
                                               const std::string& uuid, const std::string& disks,
                                               const LiveMigrateData& data) override;
    Result<void> post_live_migration_at_destination(const RequestContext& context,
                                                    const std::string& uuid,
                                                    bool block_migration) override;
    // How far a live migration from here is; nothing: there is none.
    std::optional<LiveMigrationProgress> live_migration_progress(const std::string& uuid) const {
        return migrations_.progress(uuid);
    }
    bool has_probe(const std::string& name) override { return services_.driver.has_probe(name); }
    Result<void> external_instance_event(const RequestContext& context, const std::string& uuid,
                                         const ServerEvent& event) override;
    Result<VifInfo> attach_interface(const AttachInterfaceRequest& request) override;
    Result<void> set_admin_password(const SetPasswordRequest& request) override;
    Result<void> quiesce_instance(const RequestContext& context, const std::string& uuid) override;
    Result<void> unquiesce_instance(const RequestContext& context, const std::string& uuid,
                                    const std::vector<std::string>& snapshot_ids) override;
    Result<std::string> get_console_output(const RequestContext& context, const std::string& uuid,
                                           int64_t tail_lines) override;
    Result<ConsoleConnection> get_vnc_console(const RequestContext& context,
                                              const std::string& uuid) override;
    Result<ConsoleConnection> get_serial_console(const RequestContext& context,
                                                 const std::string& uuid) override;
    Result<Json> get_instance_diagnostics(const RequestContext& context,
                                          const std::string& uuid) override;
    Result<double> get_host_uptime() override;
    ComputeNode compute_node() override { return tracker_.compute_node(); }

    // The periodic tasks, each once.
    void heartbeat();
    Result<void> update_available_resource();
    void sync_power_states();
    void poll_servers();
    // Goes on with what ended in doubt about the records.
    void settle_operations();

private:
    ComputeManager(const Borders& borders, ManagerOptions options, std::string compute_id,
                   std::unique_ptr<Journal> journal, ServerQueue::Executor executor);
    using Task = std::function<Result<void>(NodeServices&, const Operation&)>;
    // Lane::Build for what reads or writes a whole disk: few of these run at a time.
    Result<void> submit(const VerbInfo& info, const RequestContext& context,
                        const std::string& uuid, Task task,
                        ServerQueue::Lane lane = ServerQueue::Lane::Other);
    // A call that is answered with what its task found; `Value` may be void.
    template <typename Value>
    Result<Value> ask(const VerbInfo& info, const RequestContext& context, const std::string& uuid,
                      std::function<Result<Value>(const Operation&)> task);
    Result<void> live_verb_now(const VerbInfo& info, const RequestContext& context,
                               const std::string& uuid, const std::function<Result<void>()>& work);
    Result<void> cancel_queued(const RequestContext& context, const std::string& uuid);
    bool abort_for_delete(const RequestContext& context, const std::string& uuid);
    void submit_quietly(const std::string& uuid, std::function<void()> function);
    void handle_event(const RequestContext& context, const std::string& uuid,
                      const ServerEvent& event);
    void on_lifecycle_event(const LifecycleEvent& event);
    void publish_compute_node();
    struct Repeated;
    void repeat(EventLoop& loop, std::shared_ptr<Repeated> task, double periods);

    const ManagerOptions options_;
    const std::unique_ptr<Journal> journal_;
    ResourceTracker tracker_;
    UnsettledOperations unsettled_;
    LiveMigrations migrations_;
    LostVolumeRequests lost_volume_requests_;
    NodeServices services_;
    std::atomic<bool> publish_pending_{false};
    std::mutex refresh_mutex_;
    std::set<std::string> refreshes_queued_;  // servers whose network is to be read again
    std::unique_ptr<WorkerPool> own_workers_, own_housekeeping_;  // null: shared ones
    WorkerPool& workers_;
    WorkerPool& housekeeping_;
    ServerQueue queue_;
};

}  // namespace kumoi::compute
