#include "api/nova/nova_moves.h"

#include <algorithm>

#include "api/nova/instance_object.h"
#include "api/nova/oslo_context.h"
#include "base/log.h"
#include "compute/vm_states.h"

namespace kumoi::nova {
namespace {

constexpr char kMigrateServerVersion[] = "1.20";

bool has_field(const ObjectTable& table, std::string_view object, std::string_view field) {
    const ObjectInfo* info = table.find(object);
    return info != nullptr && info->fields.contains(field);
}

Json argument(const Json& arguments, std::string_view name) {
    const Json* value = arguments.find(name);
    return value == nullptr ? Json() : *value;
}

// 5.x calls it instance_type.
Json flavor_argument(const Json& arguments) {
    const Json flavor = argument(arguments, "flavor");
    return flavor.is_null() ? argument(arguments, "instance_type") : flavor;
}

}  // namespace

compute::Migration migration_from(const NovaObject& object) {
    compute::Migration migration;
    migration.id = object.integer("id");
    migration.uuid = object.text("uuid");
    migration.instance_uuid = object.text("instance_uuid");
    migration.migration_type = object.text("migration_type");
    migration.status = object.text("status");
    migration.source_compute = object.text("source_compute");
    migration.source_node = object.text("source_node");
    migration.dest_compute = object.text("dest_compute");
    migration.dest_node = object.text("dest_node");
    migration.dest_host = object.text("dest_host");
    migration.user_id = object.text("user_id");
    migration.project_id = object.text("project_id");
    return migration;
}

amqp::Target compute_target(const std::string& host) {
    amqp::Target target;
    target.topic = "compute";
    target.server = host;
    target.version = "6.0";
    return target;
}

Json NovaMoves::admin() const {
    return admin_context(borders_.clock, borders_.random);
}

Result<NovaObject*> NovaMoves::need_migration(const Known& known, const std::string& uuid) {
    if (known.migration && known.migration->text("migration_type") != "live-migration") {
        return &*known.migration;
    }
    auto all = TRY(borders_.objects.class_objects(known.context, "MigrationList", "get_by_filters",
                                                  {Json::object({{"instance_uuid", uuid}})}));
    std::erase_if(all, [](const NovaObject& migration) {  // Nova's filter knows only one type
        return migration.text("migration_type") == "live-migration";
    });
    const auto newest = std::ranges::max_element(
        all, {}, [](const NovaObject& migration) { return migration.integer("id"); });
    if (newest == all.end()) {
        return Error::not_found("Server {} has no migration", uuid)
            .with_fault("MigrationNotFoundByStatus");
    }
    known.migration = std::move(*newest);
    return &*known.migration;
}

Result<compute::Migration> NovaMoves::migration(const std::string& uuid, bool fresh) {
    compute::Migration record;
    TRY(borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        NovaObject* object = TRY(need_migration(known, uuid));
        if (fresh) {
            const Json id = object->integer("id");
            *object =
                TRY(borders_.objects.class_object(known.context, "Migration", "get_by_id", {id}));
        }
        record = migration_from(*object);
        return {};
    }));
    return record;
}

Result<void> NovaMoves::check_peer(const std::string& host, const std::string& node) {
    const auto record = TRY(borders_.objects.class_object(
        admin(), "ComputeNode", "get_by_host_and_nodename", text_arguments({host, node})));
    const std::string type = record.text("hypervisor_type");
    const std::string ours = compute::ComputeNode().hypervisor_type;
    if (type != ours) {
        return Error::unsupported(
                   "Migration error: host {} has hypervisor type {}, and servers of {} hosts move "
                   "only among themselves",
                   host, type, ours)
            .with_hint("Keep the kinds apart with an aggregate and a flavor's extra specs.")
            .with_fault("MigrationError");
    }
    return {};
}

NovaObject NovaMoves::migration_context(const NovaObject& instance,
                                        const NovaObject& migration) const {
    const ObjectTable& table = borders_.objects.table();
    NovaObject devices = NovaObject::make(table, "PciDeviceList");
    devices.set("objects", Json::array());
    NovaObject requests = NovaObject::make(table, "InstancePCIRequests");
    requests.set("instance_uuid", instance.text("uuid"));
    requests.set("requests", Json::array());
    NovaObject context = NovaObject::make(table, "MigrationContext");
    context.set("instance_uuid", instance.text("uuid"));
    context.set("migration_id", migration.integer("id"));
    for (const char* side : {"new_", "old_"}) {
        const std::string prefix = side;
        context.set(prefix + "numa_topology", nullptr);
        context.set(prefix + "pci_devices", devices.primitive());
        context.set(prefix + "pci_requests", requests.primitive());
        context.set(prefix + "resources", nullptr);
    }
    return context;
}

Result<void> NovaMoves::save(const Known& known, const compute::InstanceUpdate& update) {
    TRY(apply_update(known.instance, update));
    TRY(borders_.objects.action(known.context, known.instance, "save", {}, save_arguments(update)));
    return {};
}

Result<void> NovaMoves::prepare(const std::string& uuid, const compute::InstanceUpdate& update,
                                const std::string& host, const std::string& host_ip) {
    return borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        NovaObject& migration = *TRY(need_migration(known, uuid));
        migration.set("dest_compute", host);
        migration.set("dest_node", borders_.node.node());
        migration.set("dest_host", host_ip);
        migration.set("status", "pre-migrating");
        const auto id = borders_.node.record_id();
        if (id && has_field(borders_.objects.table(), "Migration", "dest_compute_id")) {
            migration.set("dest_compute_id", *id);
        }
        TRY(borders_.objects.action(known.context, migration, "save"));
        if (const Json flavor = flavor_argument(known.arguments); !flavor.is_null()) {
            known.instance.set("new_flavor", flavor);
        }
        known.instance.set("migration_context",
                           migration_context(known.instance, migration).primitive());
        return save(known, update);
    });
}

Result<void> NovaMoves::save_host(const std::string& uuid, const compute::InstanceUpdate& update,
                                  compute::MoveEnd end) {
    return borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        const NovaObject& migration = *TRY(need_migration(known, uuid));
        const std::string prefix = end == compute::MoveEnd::Source ? "source_" : "dest_";
        const std::string host = migration.text(prefix + "compute");
        known.instance.set("host", host);
        known.instance.set("node", migration.text(prefix + "node"));
        if (has_field(borders_.objects.table(), "Instance", "compute_id")) {
            std::optional<int64_t> id;
            if (host == borders_.node.host()) {
                id = borders_.node.record_id();
            } else if (const Json* other = migration.get("dest_compute_id")) {
                id = other->to_int64();
            }
            known.instance.set("compute_id", Json(id));
        }
        TRY(save(known, update));
        if (update.launched_ns && host == borders_.node.host()) {
            borders_.conductor.tell_arrival(known.instance);
        }
        return {};
    });
}

Result<void> NovaMoves::drop_context(const std::string& uuid) {
    return borders_.conductor.drop_migration_context(uuid);
}

Result<void> NovaMoves::cast_to(const std::string& host, const Json& context,
                                const std::string& method, Json arguments) {
    return borders_.objects.rpc().cast(compute_target(host), context, method, std::move(arguments));
}

Result<void> NovaMoves::cast(const std::string& uuid, compute::MoveCast what,
                             const std::string& disk_info) {
    return borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        const NovaObject& migration = *TRY(need_migration(known, uuid));
        Json arguments =
            Json::object({{"instance", known.instance.primitive()},
                          {"migration", migration.primitive()},
                          {"request_spec", argument(known.arguments, "request_spec")}});
        const bool to_destination = what == compute::MoveCast::FinishResize;
        std::string method = "finish_revert_resize";
        if (what != compute::MoveCast::FinishRevertResize) {
            const Json image = argument(known.arguments, "image");
            arguments.set("image", image.is_null() ? Json::object() : image);
        }
        if (what == compute::MoveCast::ResizeInstance) {
            method = "resize_instance";
            const Json flavor = flavor_argument(known.arguments);
            const Json* recorded = known.instance.get("new_flavor");
            arguments.set("flavor", flavor.is_null() && recorded != nullptr ? *recorded : flavor);
            const Json clean = argument(known.arguments, "clean_shutdown");
            arguments.set("clean_shutdown", clean.is_null() ? Json(true) : clean);
        } else if (to_destination) {
            method = "finish_resize";
            arguments.set("disk_info", disk_info);
        }
        TRY(cast_to(migration.text(to_destination ? "dest_compute" : "source_compute"),
                    known.context, method, std::move(arguments)));
        known.arguments = Json();
        return {};
    });
}

Result<void> NovaMoves::reschedule(const compute::RequestContext& context, const std::string& uuid,
                                   const Error& reason) {
    return borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        Json filters = argument(known.arguments, "filter_properties");
        Json* retry = filters.find("retry");
        if (retry == nullptr || !retry->is_object()) {
            return Error::unsupported("the move of server {} may not be tried on another host",
                                      uuid);
        }
        retry->set("exc", Json::array_of(std::vector<std::string>{reason.text()}));
        retry->set("exc_reason", reason.message);
        compute::InstanceUpdate update;
        update.task_state = std::optional<std::string>(compute::task_states::kResizePrep);
        update.expected_task_state = {{compute::task_states::kResizePrep, std::nullopt}};
        TRY(save(known, update));
        Json arguments = Json::object(
            {{"instance", known.instance.primitive()},
             {"scheduler_hint", Json::object({{"filter_properties", std::move(filters)}})},
             {"live", false},
             {"rebuild", false},
             {"flavor", flavor_argument(known.arguments)},
             {"block_migration", nullptr},
             {"disk_over_commit", nullptr},
             {"reservations", nullptr},
             {"clean_shutdown", argument(known.arguments, "clean_shutdown")},
             {"request_spec", argument(known.arguments, "request_spec")},
             {"host_list", argument(known.arguments, "host_list")}});
        amqp::Target target;
        target.topic = "conductor";
        target.namespace_ = "compute_task";
        target.version = kMigrateServerVersion;
        TRY(borders_.objects.rpc().cast(target,
                                        wire_context(context, borders_.clock, borders_.random),
                                        "migrate_server", std::move(arguments)));
        known.migration.reset();  // conductor makes another
        known.arguments = Json();
        return {};
    });
}

Result<bool> NovaMoves::sees_file(const std::string& /*uuid*/, const std::string& host,
                                  const std::string& name) {
    const Json data = Json::object({{"filename", name}});
    const Json seen = TRY(borders_.objects.rpc().call(compute_target(host), admin(),
                                                      "check_instance_shared_storage",
                                                      Json::object({{"data", data}})));
    return seen == Json(true);
}

Result<void> NovaMoves::return_allocations(const std::string& uuid) {
    return borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        const std::string migration = TRY(need_migration(known, uuid))->text("uuid");
        return borders_.allocations.move(request_context(known.context), migration, uuid);
    });
}

Result<void> NovaMoves::drop_allocations(const std::string& uuid) {
    return borders_.conductor.with_server(uuid, [&](const Known& known) -> Result<void> {
        const std::string migration = TRY(need_migration(known, uuid))->text("uuid");
        TRY(borders_.allocations.remove(request_context(known.context), migration));
        if (known.instance.text("host") != borders_.node.host()) {
            borders_.conductor.tell_departure(uuid);
        }
        return {};
    });
}

Result<void> NovaMoves::drop_allocation_here(const std::string& uuid) {
    const auto provider = borders_.node.uuid();
    if (!provider) {  // at start the resources are not recorded yet: the record itself says it
        const auto node = TRY(borders_.objects.class_object(
            admin(), "ComputeNode", "get_by_host_and_nodename",
            text_arguments({borders_.node.host(), borders_.node.node()})));
        return borders_.allocations.remove_from(request_context(admin()), uuid, node.text("uuid"));
    }
    return borders_.allocations.remove_from(request_context(admin()), uuid, *provider);
}

}  // namespace kumoi::nova
