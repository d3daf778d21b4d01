// RemoteMoves: requests of Nova's chains of moves, as nova-conductor and nova-api send them.
#include "api/cluster/remote_compute.h"

namespace kumoi::cluster {
namespace {

// Checks ask two hosts and their disks.
constexpr int64_t kCheckTimeoutMs = 1'800'000;
constexpr int64_t kCheckMonitorS = 60;

}  // namespace

Result<Json> RemoteMoves::arguments(const Instance& instance,
                                    const MigrationRecord& migration) const {
    return Json::object({{"instance", TRY(rpc_.records.instance(instance))},
                         {"migration", migration_primitive(migration)}});
}

Result<Json> RemoteMoves::check_can_live_migrate_destination(
    const Context& context, const Instance& instance, const MigrationRecord& migration,
    const std::optional<bool>& block_migration, bool disk_over_commit) {
    Json args = TRY(arguments(instance, migration));
    args.set("block_migration", Json(block_migration));
    args.set("disk_over_commit", disk_over_commit);
    args.set("limits", nullptr);
    amqp::CallOptions options;
    options.timeout_ms = kCheckTimeoutMs;
    options.call_monitor_timeout_s = kCheckMonitorS;
    return rpc_.call(migration.dest_compute, context, "check_can_live_migrate_destination",
                     std::move(args), options);
}

Result<void> RemoteMoves::live_migration(const Context& context, const Instance& instance,
                                         const MigrationRecord& migration,
                                         const Json& migrate_data) {
    Json args = TRY(arguments(instance, migration));
    const Json* block = migrate_data.find_path({"nova_object.data", "block_migration"});
    args.set("dest", migration.dest_compute);
    args.set("block_migration", block == nullptr ? Json() : *block);
    args.set("migrate_data", migrate_data);
    return rpc_.cast(migration.source_compute, context, "live_migration", std::move(args));
}

Result<void> RemoteMoves::live_migration_abort(const Context& context, const Instance& instance,
                                               const MigrationRecord& migration) {
    return rpc_.cast(migration.source_compute, context, "live_migration_abort",
                     Json::object({{"instance", TRY(rpc_.records.instance(instance))},
                                   {"migration_id", migration.id}}));
}

Result<void> RemoteMoves::live_migration_force_complete(const Context& context,
                                                        const Instance& instance,
                                                        const MigrationRecord& migration) {
    return rpc_.cast(migration.source_compute, context, "live_migration_force_complete",
                     Json::object({{"instance", TRY(rpc_.records.instance(instance))}}));
}

Result<void> RemoteMoves::prep_resize(const Context& context, const Instance& instance,
                                      const MigrationRecord& migration,
                                      const compute::Flavor& flavor) {
    Json args = TRY(arguments(instance, migration));
    args.set("image", Json::object());
    args.set("flavor", flavor_primitive(flavor, migration.new_flavor));
    args.set("request_spec", nullptr);
    args.set("filter_properties", Json::object());
    args.set("node", migration.dest_node);
    args.set("clean_shutdown", true);
    args.set("host_list", nullptr);
    return rpc_.cast(migration.dest_compute, context, "prep_resize", std::move(args));
}

Result<void> RemoteMoves::confirm_resize(const Context& context, const Instance& instance,
                                         const MigrationRecord& migration) {
    return rpc_.cast(migration.source_compute, context, "confirm_resize",
                     TRY(arguments(instance, migration)));
}

Result<void> RemoteMoves::revert_resize(const Context& context, const Instance& instance,
                                        const MigrationRecord& migration) {
    Json args = TRY(arguments(instance, migration));
    args.set("request_spec", nullptr);
    return rpc_.cast(migration.dest_compute, context, "revert_resize", std::move(args));
}

Result<void> RemoteMoves::evacuate(const compute::EvacuateServer& request, const Instance& instance,
                                   const MigrationRecord& migration) {
    Json args = TRY(arguments(instance, migration));
    args.set("recreate", true);
    args.set("on_shared_storage", Json(request.on_shared_storage));
    args.set("new_pass", request.admin_password);
    args.set("image_ref", nullptr);
    args.set("orig_image_ref", instance.image_id);
    args.set("injected_files", Json::array());
    args.set("bdms", nullptr);
    args.set("preserve_ephemeral", false);
    args.set("scheduled_node", migration.dest_node);
    args.set("limits", Json::object());
    args.set("request_spec", nullptr);
    args.set("target_state", request.leave_stopped ? Json("stopped") : Json());
    return rpc_.cast(migration.dest_compute, request.context, "rebuild_instance", std::move(args));
}

}  // namespace kumoi::cluster
