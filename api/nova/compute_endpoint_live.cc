// ComputeEndpoint, part five: live migration.
#include "api/nova/compute_endpoint_call.h"
#include "api/nova/live_migrate_data_object.h"

namespace kumoi::nova {
namespace {

std::optional<bool> optional_bool(const Json* value) {
    return value != nullptr && value->is_bool() ? std::optional(value->as_bool()) : std::nullopt;
}

}  // namespace

// The server of a request, and its migration where one came with it.
Result<std::string> ComputeEndpoint::adopt_live(Call& call) {
    const std::string uuid = TRY(adopt(call));
    const Json* migration = call.argument("migration");
    if (migration != nullptr && is_object_primitive(*migration)) {
        borders_.conductor.adopt_migration(
            uuid, TRY(borders_.objects.receive(*call.context.wire, *migration)));
    }
    return uuid;
}

Result<compute::LiveMigrateData> ComputeEndpoint::migrate_data(Call& call, std::string_view name) {
    const Json* data = call.argument(name);
    if (data == nullptr || !is_object_primitive(*data)) {
        return Error::invalid("{}: {} is missing", call.request.method, name)
            .with_fault("TypeError");
    }
    return live_migrate_data_from(TRY(borders_.objects.receive(*call.context.wire, *data)));
}

Result<Json> ComputeEndpoint::answer(Result<compute::LiveMigrateData> data) {
    if (!data) {
        return data.error();
    }
    const auto object = TRY(live_migrate_data_object(borders_.objects.table(), *data, Json()));
    return object.primitive();
}

Result<Json> ComputeEndpoint::check_live_destination(Call& call) {
    compute::LiveMigrationCheck check;
    check.context = call.context;
    check.uuid = TRY(adopt_live(call));
    check.block_migration = optional_bool(call.argument("block_migration"));
    check.disk_over_commit = call.boolean("disk_over_commit", false);
    return answer(borders_.manager.check_can_live_migrate_destination(check));
}

Result<Json> ComputeEndpoint::check_live_source(Call& call) {
    const auto data = TRY(migrate_data(call, "dest_check_data"));
    const std::string uuid = TRY(adopt_live(call));
    return answer(borders_.manager.check_can_live_migrate_source(call.context, uuid, data));
}

Result<Json> ComputeEndpoint::live_migration(Call& call) {
    compute::LiveMigrationRequest request;
    request.data = TRY(migrate_data(call, "migrate_data"));
    request.context = call.context;
    request.uuid = TRY(adopt_live(call));
    request.destination = call.text("dest");
    TRY(borders_.manager.live_migration(std::move(request)));
    return Json();
}

Result<Json> ComputeEndpoint::live_migration_abort(Call& call) {
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.live_migration_abort(call.context, uuid,
                                              call.request.args.integer_or("migration_id")));
    return Json();
}

Result<Json> ComputeEndpoint::live_migration_force_complete(Call& call) {
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.live_migration_force_complete(call.context, uuid));
    return Json();
}

Result<Json> ComputeEndpoint::pre_live_migration(Call& call) {
    const auto data = TRY(migrate_data(call, "migrate_data"));
    const std::string uuid = TRY(adopt_live(call));
    return answer(borders_.manager.pre_live_migration(call.context, uuid, call.text("disk"), data));
}

Result<Json> ComputeEndpoint::post_live_migration(Call& call) {
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.post_live_migration_at_destination(
        call.context, uuid, call.boolean("block_migration", false)));
    return Json();
}

Result<Json> ComputeEndpoint::rollback_live_migration(Call& call) {
    const auto data = TRY(migrate_data(call, "migrate_data"));
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.rollback_live_migration_at_destination(
        call.context, uuid, call.boolean("destroy_disks", true), data));
    return Json();
}

// A claim of NUMA cells or devices there; this node makes none.
Result<Json> ComputeEndpoint::drop_move_claim(Call& /*call*/) {
    return Json();
}

}  // namespace kumoi::nova
