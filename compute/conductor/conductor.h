// Conductor: the standalone control plane. It owns the records (servers, flavors, keys, services,
// quotas ...), decides where servers go, tells nodes what to do, and is what nodes report to
// (ConductorApi). The REST layer calls its verbs and reads its stores; nothing else writes them.
//
// A verb checks state and lock, writes task_state and the action in one transaction, then casts to
// the node. A crash between the two is repaired by reconcile(): every server whose task nobody is
// working on gets its cast again, every half-done create is placed again.
//
// Any thread. Verbs may block for a database write. Images and networks are asked through their
// interfaces.
//
//     auto it = TRY(Conductor::create(options, {database, clock, random, images, networks}));
//     it->register_host("cn-1", compute_manager);
//     ... the manager's own recovery ...
//     TRY(it->reconcile());
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "compute/conductor/action_store.h"
#include "compute/conductor/aggregate_store.h"
#include "compute/conductor/create_request.h"
#include "compute/conductor/database.h"
#include "compute/conductor/flavor_store.h"
#include "compute/conductor/host_moves.h"
#include "compute/conductor/host_registry.h"
#include "compute/conductor/instance_store.h"
#include "compute/conductor/keypair_store.h"
#include "compute/conductor/migration_store.h"
#include "compute/conductor/placement.h"
#include "compute/conductor/quota_store.h"
#include "compute/conductor/server_group_store.h"
#include "compute/conductor/service_store.h"
#include "compute/conductor/state_rules.h"
#include "compute/manager/conductor_api.h"
#include "compute/manager/console.h"
#include "compute/manager/image_api.h"
#include "compute/manager/network_api.h"

namespace kumoi::compute {

struct ConductorOptions {
    std::string controller_host = "controller";  // of nova-conductor and nova-scheduler
    int64_t service_down_time_s = 60;
    int64_t max_attempts = 3;  // hosts a build is tried on
    bool allow_resize_to_same_host = true;
    int64_t resize_confirm_window_s = 0;       // 0: never by itself
    int64_t rescue_timeout_s = 0;              // 0: never by itself
    int64_t shelved_offload_time_s = 0;        // negative: never by itself; 0: the node does it
    int64_t reclaim_instance_interval_s = 0;   // 0: a deleted server goes at once
    std::vector<std::string> enabled_filters;  // empty: all
    scheduler::WeigherOptions weighers;
};

struct ConductorDependencies {
    Database& database;
    const Clock& clock;
    Random& random;
    ImageApi& images;
    NetworkApi& networks;
};

class Conductor final : public ConductorApi {
public:
    static Result<std::unique_ptr<Conductor>> create(const ConductorOptions& options,
                                                     ConductorDependencies dependencies);

    void register_host(const std::string& host, ComputeApi& api) { hosts_.add(host, api); }
    void unregister_host(const std::string& host) { hosts_.remove(host); }
    // A cloud of several nodes: how servers move between them, and threads for what takes a while.
    // Before the first request; both outlive the conductor's last verb.
    using Executor = std::function<Result<void>(std::function<void()> work)>;
    void set_moves(HostMoves& moves, Executor executor) {
        moves_ = &moves;
        executor_ = std::move(executor);
    }
    // Once, after the nodes registered and finished their own recovery.
    Result<void> reconcile();

    // Verbs of the API.
    Result<CreatedServers> create_servers(const CreateServers& request);
    Result<void> start_server(const RequestContext& context, const std::string& uuid);
    Result<void> stop_server(const RequestContext& context, const std::string& uuid);
    Result<void> reboot_server(const RequestContext& context, const std::string& uuid,
                               RebootType type);
    Result<void> pause_server(const RequestContext& context, const std::string& uuid);
    Result<void> unpause_server(const RequestContext& context, const std::string& uuid);
    Result<void> suspend_server(const RequestContext& context, const std::string& uuid);
    Result<void> resume_server(const RequestContext& context, const std::string& uuid);
    // `image_id`: empty for the image the server was made from.
    Result<void> rescue_server(const RequestContext& context, const std::string& uuid,
                               const std::string& image_id, const std::string& admin_password);
    Result<void> unrescue_server(const RequestContext& context, const std::string& uuid);
    // Both return the id of the image, queued.
    Result<std::string> create_image(const RequestContext& context, const std::string& uuid,
                                     const std::string& name, const Properties& properties);
    Result<std::string> create_backup(const RequestContext& context, const std::string& uuid,
                                      const std::string& name, const Properties& properties,
                                      const std::string& backup_type, int64_t rotation);
    Result<InstancePtr> rebuild_server(const RebuildServer& request);
    Result<void> resize_server(const RequestContext& context, const std::string& uuid,
                               const std::string& flavor_id,
                               const std::optional<bool>& auto_disk_config);
    Result<void> migrate_server(const RequestContext& context, const std::string& uuid,
                                const std::optional<std::string>& host);
    Result<void> confirm_resize(const RequestContext& context, const std::string& uuid);
    Result<void> revert_resize(const RequestContext& context, const std::string& uuid);
    // Live migration: accepted, and the rest is seen in the migration's record; with `waits` also
    // the outcome of choosing and checking a host.
    Result<void> live_migrate_server(const LiveMigrateServer& request);
    // InvalidMigrationState unless it runs, or with `queued_too` has not begun yet.
    Result<void> abort_live_migration(const RequestContext& context, const std::string& uuid,
                                      int64_t migration_id, bool queued_too);
    Result<void> force_live_migration(const RequestContext& context, const std::string& uuid,
                                      int64_t migration_id);
    // Of a server whose host is down.
    Result<void> evacuate_server(const EvacuateServer& request);
    Result<void> shelve_server(const RequestContext& context, const std::string& uuid);
    Result<void> shelve_offload_server(const RequestContext& context, const std::string& uuid);
    Result<void> unshelve_server(const RequestContext& context, const std::string& uuid,
                                 const UnshelveTarget& target);
    // With reclaim_instance_interval the server is kept for that long, unless forced.
    Result<void> delete_server(const RequestContext& context, const std::string& uuid, bool force);
    Result<void> restore_server(const RequestContext& context, const std::string& uuid);
    // Answers when the node has attached it; the detach is only begun.
    Result<VifInfo> attach_interface(const RequestContext& context, const std::string& uuid,
                                     const RequestedNetwork& requested);
    Result<void> detach_interface(const RequestContext& context, const std::string& uuid,
                                  const std::string& port_id);
    Result<void> lock_server(const RequestContext& context, const std::string& uuid,
                             const std::optional<std::string>& reason);
    Result<void> unlock_server(const RequestContext& context, const std::string& uuid);
    // Answers when it is set; errors in Nova's words (InstancePasswordSetFailed, ...).
    Result<void> set_server_password(const RequestContext& context, const std::string& uuid,
                                     const std::string& password);
    Result<void> reset_state(const RequestContext& context, const std::string& uuid,
                             const std::string& vm_state);
    // Attributes that live in the record alone: names, metadata, tags. Refuses locked servers.
    Result<InstancePtr> change_server(const RequestContext& context, const std::string& uuid,
                                      const InstanceStore::Change& change);
    Result<std::string> console_output(const RequestContext& context, const std::string& uuid,
                                       int64_t tail_lines);
    Result<ConsoleConnection> vnc_console(const RequestContext& context, const std::string& uuid);
    Result<ConsoleConnection> serial_console(const RequestContext& context,
                                             const std::string& uuid);
    Result<Json> diagnostics(const RequestContext& context, const std::string& uuid);
    Result<double> host_uptime(const std::string& host);

    // Records.
    const InstanceStore& instances() const { return instances_; }
    ActionStore& actions() { return actions_; }
    FlavorStore& flavors() { return flavors_; }
    KeypairStore& keypairs() { return keypairs_; }
    QuotaStore& quotas() { return quotas_; }
    ServiceStore& services() { return services_; }
    ServerGroupStore& server_groups() { return server_groups_; }
    AggregateStore& aggregates() { return aggregates_; }
    MigrationStore& migrations() { return migrations_; }
    const Placement& placement() const { return placement_; }
    const ConductorOptions& options() const { return options_; }
    NetworkApi& networks() { return networks_; }
    // The services there are, and the controller's own two, which are up while anybody can ask.
    std::vector<ServiceRecord> all_services() const;
    std::string zone_of(const ServiceRecord& service) const;
    // Conflict while servers are on its host.
    Result<void> remove_service(const std::string& uuid_or_id);
    // "UP", "DOWN", "UNKNOWN", "MAINTENANCE", "" of the server's host, as host_status shows it.
    std::string host_status(const std::string& host) const;

    // ConductorApi: what nodes report.
    Result<Instance> instance_get(const std::string& uuid) override;
    Result<std::vector<Instance>> instances_by_host(const std::string& host) override;
    Result<void> instance_save(const std::string& uuid, const InstanceUpdate& update) override;
    Result<void> instance_destroy(const std::string& uuid) override;
    Result<void> fault_create(const std::string& uuid, const Fault& fault) override;
    Result<void> action_event_start(const RequestContext& context, const std::string& uuid,
                                    const std::string& event, const std::string& host) override;
    Result<void> action_event_finish(const RequestContext& context, const std::string& uuid,
                                     const std::string& event,
                                     const std::optional<Error>& failure) override;
    Result<void> reschedule_build(const RequestContext& context, const std::string& uuid,
                                  const Error& reason) override;
    Result<void> migration_save(const std::string& uuid, const std::string& status) override;
    Result<void> poll_servers(const std::string& host) override;
    Result<void> service_heartbeat(const std::string& host) override;
    Result<void> compute_node_update(const ComputeNode& node) override;

private:
    using Cast = std::function<Result<void>(ComputeApi& api)>;

    Conductor(const ConductorOptions& options, ConductorDependencies dependencies,
              scheduler::FilterScheduler scheduler);
    Result<void> load();

    // create_servers.cc
    Result<Instance> instance_template(const CreateServers& request);
    Result<void> check_image(const Instance& instance) const;
    Result<void> check_quota(const CreateServers& request, const Flavor& flavor,
                             int64_t& count) const;
    Result<void> check_zone(const CreateServers& request) const;
    Result<std::vector<Instance>> store_servers(const CreateServers& request,
                                                const Instance& prototype);
    Instance numbered_copy(const CreateServers& request, const Instance& prototype, int64_t index,
                           int64_t count);
    void place(Placement::Session& session, const CreateServers& request, Instance& instance);
    Result<void> insert_servers(const CreateServers& request, std::vector<Instance>& servers);
    void cast_builds(const RequestContext& context, const std::vector<Instance>& servers);
    Result<void> cast_build(const RequestContext& context, const Instance& instance,
                            const BuildInputs& inputs);
    Result<InstancePtr> move_build(const Instance& failed, const BuildInputs& inputs);
    void give_up_build(const RequestContext& context, const std::string& uuid, const Error& reason);
    Result<BuildInputs> build_inputs(const std::string& uuid);

    // server_verbs.cc
    struct VerbCall {
        ServerVerb verb;
        const char* task_state;
        Cast cast;
        InstanceStore::Change change = {};  // in the same step as task_state, after the checks
        InstanceStore::Extra extra = {};    // in the same transaction
        bool ignores_lock = false;
    };
    Result<InstancePtr> run_verb(const RequestContext& context, const std::string& uuid,
                                 const VerbCall& call);
    Result<void> run_verb(const RequestContext& context, const std::string& uuid, ServerVerb verb,
                          const char* task_state, const Cast& cast);
    // delete_servers.cc
    Result<bool> soft_delete(const RequestContext& context, const std::string& uuid);
    void forget_server(const RequestContext& context, const Instance& instance);

    // image_verbs.cc
    Result<ImageMeta> queue_snapshot(const RequestContext& context, const Instance& instance,
                                     const std::string& name, const Properties& properties);
    Result<std::string> run_snapshot(const RequestContext& context, const std::string& uuid,
                                     const std::string& name, const Properties& properties,
                                     VerbCall call);

    // resize_verbs.cc
    Result<void> start_resize(const RequestContext& context, const Instance& instance,
                              const Flavor& flavor, ServerVerb verb,
                              const std::optional<bool>& auto_disk_config);
    Result<void> check_resize_quota(const Instance& instance, const Flavor& flavor) const;
    Result<Flavor> flavor_for(const RequestContext& context, const std::string& flavor_id) const;

    Result<void> start_move(const RequestContext& context, const Instance& instance,
                            const Flavor& flavor, ServerVerb verb,
                            const std::optional<bool>& auto_disk_config,
                            const std::optional<std::string>& host);
    Result<void> end_move(const RequestContext& context, const std::string& uuid, ServerVerb verb);

    // live_migration_verbs.cc
    Result<MigrationRecord> begin_live_migration(const LiveMigrateServer& request);
    Result<void> run_live_migration(const LiveMigrateServer& request, MigrationRecord& migration);
    Result<Json> find_destination(const LiveMigrateServer& request, const Instance& instance,
                                  MigrationRecord& migration);
    Result<void> claim_destination(const scheduler::RequestSpec& spec, MigrationRecord& migration);
    void give_up_move(const RequestContext& context, MigrationRecord migration, ServerVerb verb,
                      const Error& reason);
    Result<MigrationRecord> live_migration_of(const RequestContext& context,
                                              const std::string& uuid, int64_t migration_id,
                                              const char* verb);

    // poll_servers.cc
    void poll_server(const Instance& instance);

    Result<void> check_lock(const RequestContext& context, const Instance& instance) const;
    Result<void> local_delete(const RequestContext& context, const Instance& instance);
    Result<ComputeApi*> host_of(const Instance& instance) const;

    // reconcile.cc
    Result<void> resume_task(const Instance& instance);
    Result<void> resume_remote_task(const RequestContext& context, const Instance& instance);
    void note_touched(const std::string& uuid);

    const ConductorOptions options_;
    Database& database_;
    const Clock& clock_;
    Random& random_;
    ImageApi& images_;
    NetworkApi& networks_;
    InstanceStore instances_;
    ActionStore actions_;
    FlavorStore flavors_;
    KeypairStore keypairs_;
    QuotaStore quotas_;
    ServiceStore services_;
    ServerGroupStore server_groups_;
    AggregateStore aggregates_;
    MigrationStore migrations_;
    Placement placement_;
    HostRegistry hosts_;
    HostMoves* moves_ = nullptr;  // null: servers never leave their host
    Executor executor_;

    std::mutex builds_mutex_;                    // guards the next two
    std::map<std::string, BuildInputs> builds_;  // running builds, with what must not be stored
    std::set<std::string> unfinished_;  // found half-done at start and not touched by a node since
};

}  // namespace kumoi::compute
