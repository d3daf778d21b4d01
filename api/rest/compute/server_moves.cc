// os-migrateLive and evacuate: servers that go to another host, by live migration or because theirs
// is down.
#include "api/rest/compute/server_action.h"
#include "api/rest/compute/server_create.h"
#include "api/rest/schema.h"

namespace kumoi::api {
namespace {

Result<std::optional<std::string>> parse_host(const ActionCall& action, Fields& fields,
                                              std::string_view rule) {
    auto host = TRY(fields.optional_text("host", {1, 255}));
    if (host) {
        TRY(action.call.authorize(
            rule, {action.server->instance.project_id, action.server->instance.user_id}));
    }
    return host;
}

// 2.30 to 2.67, 2.29 to 2.67: Nova leaves the scheduler out then; here it never is.
Result<void> parse_force(const Call& call, Fields& fields, int since,
                         const std::optional<std::string>& host) {
    if (!call.at_least(since) || call.at_least(68)) {
        return {};
    }
    if (TRY(fields.optional_boolean("force")).value_or(false) && !host) {
        return Error::invalid("Can't force to a non-provided destination");
    }
    return {};
}

}  // namespace

Result<Reply> migrate_live(const ActionCall& action) {
    const Call& call = action.call;
    Fields fields = TRY(Fields::of(action.argument, "os-migrateLive"));
    compute::LiveMigrateServer request;
    request.context = action.context();
    request.uuid = action.uuid();
    TRY(fields.require("host"));
    TRY(fields.require("block_migration"));
    const Json* block = fields.take("block_migration");
    const bool automatic = call.at_least(25) && *block == Json("auto");
    if (!automatic) {
        request.block_migration = TRY(fields.optional_boolean("block_migration"));
        if (!request.block_migration) {
            return invalid_input("block_migration", *block, "None is not of type 'boolean'");
        }
    }
    if (!call.at_least(25)) {
        TRY(fields.require("disk_over_commit"));
        request.disk_over_commit = TRY(fields.optional_boolean("disk_over_commit")).value_or(false);
    }
    request.host =
        TRY(parse_host(action, fields, "os_compute_api:os-migrate-server:migrate_live:host"));
    TRY(parse_force(call, fields, 30, request.host));
    TRY(fields.finish());
    request.waits = !call.at_least(34);
    return accepted(action.conductor().live_migrate_server(request));
}

Result<Reply> evacuate(const ActionCall& action) {
    const Call& call = action.call;
    Fields fields = TRY(Fields::of(action.argument, "evacuate"));
    compute::EvacuateServer request;
    request.context = action.context();
    request.uuid = action.uuid();
    request.host = TRY(parse_host(action, fields, "os_compute_api:os-evacuate"));
    const auto password = TRY(fields.optional_text("adminPass", {0, 255}));
    request.admin_password =
        password && !password->empty() ? *password : generated_password(call.services.random);
    if (!call.at_least(14)) {
        TRY(fields.require("onSharedStorage"));
        request.on_shared_storage = TRY(fields.optional_boolean("onSharedStorage"));
    }
    TRY(parse_force(call, fields, 29, request.host));
    TRY(fields.finish());
    request.leave_stopped = call.at_least(95);
    TRY(action.conductor().evacuate_server(request));
    if (call.at_least(14)) {
        return Reply{};
    }
    return Reply::json(Json::object({{"adminPass", request.admin_password}}));
}

}  // namespace kumoi::api
