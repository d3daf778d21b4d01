#include "api/nova/nova_live_migrations.h"

#include <algorithm>
#include <iterator>

#include "api/nova/instance_object.h"
#include "api/nova/live_migrate_data_object.h"
#include "api/nova/nova_moves.h"
#include "api/nova/oslo_context.h"
#include "compute/manager/verb.h"

namespace kumoi::nova {
namespace {

constexpr char kType[] = "live-migration";
constexpr int64_t kCallTimeoutMs = 1'800'000;  // Nova's long_rpc_timeout
constexpr int64_t kCallMonitorTimeoutS = 60;   // ... while the other host gives signs of life

bool has_field(const ObjectTable& table, std::string_view object, std::string_view field) {
    const ObjectInfo* info = table.find(object);
    return info != nullptr && info->fields.contains(field);
}

bool is_live(const std::optional<NovaObject>& migration) {
    return migration && migration->text("migration_type") == kType;
}

// Percent of its memory that is still to come, as Nova's API shows it.
int64_t percent_remaining(const compute::LiveMigrationProgress& progress) {
    if (progress.memory_total <= 0) {
        return 0;
    }
    return std::clamp<int64_t>(progress.memory_remaining * 100 / progress.memory_total, 0, 100);
}

}  // namespace

Result<NovaObject*> NovaLiveMigrations::need_migration(const Known& known,
                                                       const std::string& uuid) {
    if (is_live(known.migration)) {
        return &*known.migration;
    }
    auto all = TRY(borders_.objects.class_objects(
        known.context, "MigrationList", "get_by_filters",
        {Json::object({{"instance_uuid", uuid}, {"migration_type", kType}})}));
    std::erase_if(
        all, [](const NovaObject& migration) { return migration.text("migration_type") != kType; });
    const auto newest = std::ranges::max_element(
        all, {}, [](const NovaObject& migration) { return migration.integer("id"); });
    if (newest == all.end()) {
        return Error::not_found("Server {} has no live migration", uuid)
            .with_fault("MigrationNotFoundByStatus");
    }
    known.migration = std::move(*newest);
    return &*known.migration;
}

Result<compute::Migration> NovaLiveMigrations::live_migration(const std::string& uuid) {
    compute::Migration record;
    TRY(borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        if (!is_live(known.migration)) {
            TRY(need_migration(known, uuid));
        } else {  // its status of this moment
            const Json id = known.migration->integer("id");
            known.migration =
                TRY(borders_.objects.class_object(known.context, "Migration", "get_by_id", {id}));
        }
        record = migration_from(*known.migration);
        return {};
    }));
    return record;
}

Result<void> NovaLiveMigrations::save_progress(const std::string& uuid,
                                               const compute::LiveMigrationProgress& progress) {
    return borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        NovaObject& migration = *TRY(need_migration(known, uuid));
        migration.set("memory_total", progress.memory_total);
        migration.set("memory_processed", progress.memory_processed);
        migration.set("memory_remaining", progress.memory_remaining);
        migration.set("disk_total", progress.disk_total);
        migration.set("disk_processed", progress.disk_processed);
        migration.set("disk_remaining", progress.disk_remaining);
        TRY(borders_.objects.action(known.context, migration, "save"));
        const int64_t percent = percent_remaining(progress);
        if (known.instance.integer("progress") != percent) {
            known.instance.set("progress", percent);
            TRY(borders_.objects.action(known.context, known.instance, "save"));
        }
        return {};
    });
}

Result<void> NovaLiveMigrations::save_host(const std::string& uuid,
                                           const compute::InstanceUpdate& update,
                                           const std::string& host) {
    compute::InstanceUpdate rest = update;
    if (update.network_info) {  // a record of its own
        compute::InstanceUpdate cache;
        cache.network_info = std::exchange(rest.network_info, std::nullopt);
        TRY(borders_.conductor.instance_save(uuid, cache));
    }
    return borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        const bool here = host == borders_.node.host();
        std::string node = borders_.node.node();
        std::optional<int64_t> id = borders_.node.record_id();
        if (!here) {
            const NovaObject& migration = *TRY(need_migration(known, uuid));
            const bool to = migration.text("dest_compute") == host;
            node = migration.text(to ? "dest_node" : "source_node");
            const Json* other = to ? migration.get("dest_compute_id") : nullptr;
            id = other == nullptr ? std::nullopt : other->to_int64();
        }
        known.instance.set("host", host);
        known.instance.set("node", node);
        if (has_field(borders_.objects.table(), "Instance", "compute_id")) {
            known.instance.set("compute_id", Json(id));
        }
        TRY(apply_update(known.instance, rest));
        TRY(borders_.objects.action(known.context, known.instance, "save", {},
                                    save_arguments(rest)));
        if (here) {
            borders_.conductor.tell_arrival(known.instance);
        }
        return {};
    });
}

Result<void> NovaLiveMigrations::drop_context(const std::string& uuid) {
    return borders_.conductor.drop_migration_context(uuid);
}

Result<bool> NovaLiveMigrations::is_fenced(const std::string& host) {
    return borders_.node.is_forced_down(host);
}

Result<void> NovaLiveMigrations::return_allocations(const std::string& uuid) {
    return borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        const std::string migration = TRY(need_migration(known, uuid))->text("uuid");
        return borders_.allocations.move(request_context(known.context), migration, uuid);
    });
}

Result<void> NovaLiveMigrations::drop_allocations(const std::string& uuid) {
    return borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        const std::string migration = TRY(need_migration(known, uuid))->text("uuid");
        TRY(borders_.allocations.remove(request_context(known.context), migration));
        borders_.conductor.tell_departure(uuid);
        return {};
    });
}

Result<void> NovaLiveMigrations::forget_consoles(const std::string& uuid) {
    TRY(borders_.objects.class_action(admin_context(borders_.clock, borders_.random),
                                      "ConsoleAuthToken", "clean_console_auths_for_instance",
                                      text_arguments({uuid})));
    return {};
}

void NovaLiveMigrations::announce(const Context& context, const std::string& uuid,
                                  compute::LiveMigrationNews news, bool begins) {
    if (borders_.notifications == nullptr || !borders_.notifications->wanted()) {
        return;
    }
    constexpr const char* kNames[] = {"live_migration_pre",           "live_migration_post",
                                      "live_migration_post_dest",     "live_migration_rollback",
                                      "live_migration_rollback_dest", "live_migration_abort",
                                      "live_migration_force_complete"};
    static_assert(std::size(kNames) ==
                  static_cast<size_t>(compute::LiveMigrationNews::ForceComplete) + 1);
    const std::string_view name = kNames[static_cast<size_t>(news)];
    borders_.conductor.with_complete(uuid, [&](const NovaObject& instance) {
        const Json wire = wire_context(context, borders_.clock, borders_.random);
        if (begins) {
            borders_.notifications->started(name, instance, wire, {});
        } else {
            borders_.notifications->finished(name, instance, wire, {}, std::nullopt);
        }
    });
}

Result<Json> NovaLiveMigrations::arguments(const std::string& uuid, Json* migration) {
    Json args = Json::object();
    TRY(borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        args.set("instance", known.instance.primitive());
        if (migration != nullptr && is_live(known.migration)) {
            *migration = known.migration->primitive();
        }
        return {};
    }));
    return args;
}

Result<Json> NovaLiveMigrations::ask(const Context& context, const std::string& host,
                                     const std::string& method, Json args) {
    return borders_.objects.rpc().call(
        compute_target(host), wire_context(context, borders_.clock, borders_.random), method,
        std::move(args), {kCallTimeoutMs, kCallMonitorTimeoutS});
}

Result<void> NovaLiveMigrations::tell(const Context& context, const std::string& host,
                                      const std::string& method, Json args) {
    return borders_.objects.rpc().cast(compute_target(host),
                                       wire_context(context, borders_.clock, borders_.random),
                                       method, std::move(args));
}

Result<compute::LiveMigrateData> NovaLiveMigrations::ask_for_data(const Context& context,
                                                                  const std::string& host,
                                                                  const std::string& method,
                                                                  Json args) {
    Json answer = TRY(ask(context, host, method, std::move(args)));
    const auto object = TRY(borders_.objects.receive(
        wire_context(context, borders_.clock, borders_.random), std::move(answer)));
    return live_migrate_data_from(object);
}

Result<compute::LiveMigrateData> NovaLiveMigrations::check_can_live_migrate_source(
    const Context& context, const std::string& uuid, const std::string& host, const Data& data) {
    Json args = TRY(arguments(uuid));
    const auto object = TRY(live_migrate_data_object(borders_.objects.table(), data, {}));
    args.set("dest_check_data", object.primitive());
    return ask_for_data(context, host, "check_can_live_migrate_source", std::move(args));
}

Result<compute::LiveMigrateData> NovaLiveMigrations::pre_live_migration(const Context& context,
                                                                        const std::string& uuid,
                                                                        const std::string& host,
                                                                        const std::string& disks,
                                                                        const Data& data) {
    Json migration;
    Json args = TRY(arguments(uuid, &migration));
    const auto object = TRY(live_migrate_data_object(borders_.objects.table(), data, migration));
    args.set("disk", disks.empty() ? Json() : Json(disks));
    args.set("migrate_data", object.primitive());
    return ask_for_data(context, host, "pre_live_migration", std::move(args));
}

Result<void> NovaLiveMigrations::post_live_migration_at_destination(const Context& context,
                                                                    const std::string& uuid,
                                                                    const std::string& host,
                                                                    bool block_migration) {
    Json args = TRY(arguments(uuid));
    args.set("block_migration", block_migration);
    TRY(ask(context, host, "post_live_migration_at_destination", std::move(args)));
    return {};
}

Result<void> NovaLiveMigrations::rollback_live_migration_at_destination(const Context& context,
                                                                        const std::string& uuid,
                                                                        const std::string& host,
                                                                        bool destroy_disks,
                                                                        const Data& data) {
    Json migration;
    Json args = TRY(arguments(uuid, &migration));
    const auto object = TRY(live_migrate_data_object(borders_.objects.table(), data, migration));
    args.set("destroy_disks", destroy_disks);
    args.set("migrate_data", object.primitive());
    return tell(context, host, "rollback_live_migration_at_destination", std::move(args));
}

Result<void> NovaLiveMigrations::remove_volume_connection(const Context& context,
                                                          const std::string& uuid,
                                                          const std::string& host,
                                                          const std::string& volume_id) {
    Json args = TRY(arguments(uuid));
    args.set("volume_id", volume_id);
    TRY(ask(context, host, "remove_volume_connection", std::move(args)));
    return {};
}

Result<void> NovaLiveMigrations::terminate_instance(const Context& context, const std::string& uuid,
                                                    const std::string& host) {
    Json args = TRY(arguments(uuid));
    args.set("bdms", Json::array());
    return tell(context, host, "terminate_instance", std::move(args));
}

}  // namespace kumoi::nova
