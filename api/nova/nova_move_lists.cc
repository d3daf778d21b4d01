// The part of NovaMoves that looks at all migrations of this host.
#include <algorithm>

#include "api/nova/instance_object.h"
#include "api/nova/nova_moves.h"
#include "api/nova/oslo_context.h"
#include "base/log.h"
#include "compute/vm_states.h"

namespace kumoi::nova {
namespace {

// Instance attributes that tell a server's sizes.
Json sizes() {
    return Json::array_of(std::vector<std::string>{"flavor", "info_cache", "system_metadata"});
}

compute::Instance with_only(compute::Instance server, const compute::Flavor& flavor) {
    server.flavor = flavor;
    server.old_flavor = server.new_flavor = std::nullopt;
    return server;
}

}  // namespace

Result<std::vector<compute::EvacuatedServer>> NovaMoves::evacuated_from_here() {
    const auto migrations = TRY(borders_.objects.class_objects(
        admin(), "MigrationList", "get_by_filters",
        {Json::object({{"source_compute", borders_.node.host()},
                       {"status", Json::array_of(std::vector<std::string>{
                                      "accepted", "pre-migrating", "done"})},
                       {"migration_type", "evacuation"}})}));
    std::vector<compute::EvacuatedServer> servers;
    for (const NovaObject& migration : migrations) {
        compute::EvacuatedServer server;
        server.uuid = migration.text("instance_uuid");
        server.migration_uuid = migration.text("uuid");
        server.done = migration.text("status") == "done";
        const auto instance = borders_.objects.class_object(
            admin(), "Instance", "get_by_uuid", text_arguments({server.uuid}),
            Json::object({{"expected_attrs", Json::array()}}));
        if (instance.ok()) {
            server.host = instance->text("host");
        } else if (instance.error().fault != "InstanceNotFound") {
            return instance.error();
        }
        servers.push_back(std::move(server));
    }
    return servers;
}

Result<void> NovaMoves::evacuation_completed(const compute::EvacuatedServer& server) {
    auto migration = TRY(borders_.objects.class_object(admin(), "Migration", "get_by_uuid",
                                                       text_arguments({server.migration_uuid})));
    migration.set("status", "completed");
    TRY(borders_.objects.action(admin(), migration, "save"));
    return {};
}

Result<compute::Instance> NovaMoves::counted(const NovaObject& migration, bool is_destination) {
    const auto object = TRY(borders_.objects.class_object(
        admin(), "Instance", "get_by_uuid", text_arguments({migration.text("instance_uuid")}),
        Json::object({{"expected_attrs", sizes()}})));
    const auto server = TRY(instance_from(object));
    const auto& flavor = is_destination ? server.new_flavor : server.old_flavor;
    return with_only(server, flavor.value_or(server.flavor));
}

Result<void> NovaMoves::count_moves(std::vector<compute::Instance>& servers) {
    const std::string& host = borders_.node.host();
    const auto migrations =
        TRY(borders_.objects.class_objects(admin(), "MigrationList", "get_in_progress_and_error",
                                           text_arguments({host, borders_.node.node()})));
    for (const NovaObject& migration : migrations) {
        const bool source = migration.text("source_compute") == host;
        const bool destination = migration.text("dest_compute") == host;
        const std::string type = migration.text("migration_type");
        const bool holds = destination || type != "evacuation";  // the dead host holds nothing
        if (source == destination || migration.text("status") == "error" || !holds) {
            continue;
        }
        const std::string uuid = migration.text("instance_uuid");
        const auto here = std::ranges::find(servers, uuid, &compute::Instance::uuid);
        if (here != servers.end()) {
            *here = with_only(*here, here->flavor);
            continue;
        }
        auto server = counted(migration, destination);
        if (server.ok()) {
            servers.push_back(std::move(*server));
        } else if (server.error().fault != "InstanceNotFound") {
            return server.error();
        }
    }
    return {};
}

}  // namespace kumoi::nova
