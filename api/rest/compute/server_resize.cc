// resize, migrate and what ends them; unshelve, which chooses a host too.
#include "api/rest/compute/server_action.h"
#include "api/rest/compute/server_create.h"
#include "api/rest/schema.h"

namespace kumoi::api {

Result<Reply> resize(const ActionCall& action) {
    Fields fields = TRY(Fields::of(action.argument, "resize"));
    TRY(fields.require("flavorRef"));
    const Json* flavor = fields.take("flavorRef");
    const auto number = flavor->to_int64();
    const std::string flavor_id =
        number ? std::to_string(*number) : TRY(fields.text("flavorRef", {1, 255}));
    const auto disk_config = TRY(parse_disk_config(fields));
    TRY(fields.finish());
    return accepted(
        action.conductor().resize_server(action.context(), action.uuid(), flavor_id, disk_config));
}

Result<Reply> migrate(const ActionCall& action) {
    std::optional<std::string> host;
    if (action.call.at_least(56) && !action.argument.is_null()) {
        Fields fields = TRY(Fields::of(action.argument, "migrate"));
        TRY(fields.require("host"));
        host = TRY(fields.optional_text("host", {1, 255}));
        TRY(fields.finish());
        if (host) {
            TRY(action.call.authorize(
                "os_compute_api:os-migrate-server:migrate:host",
                {action.server->instance.project_id, action.server->instance.user_id}));
        }
    }
    return accepted(action.conductor().migrate_server(action.context(), action.uuid(), host));
}

Result<Reply> confirm_resize(const ActionCall& action) {
    TRY(action.conductor().confirm_resize(action.context(), action.uuid()));
    return Reply::no_content();
}

Result<Reply> revert_resize(const ActionCall& action) {
    return accepted(action.conductor().revert_resize(action.context(), action.uuid()));
}

Result<Reply> unshelve(const ActionCall& action) {
    compute::UnshelveTarget target;
    if (action.call.at_least(77) && !action.argument.is_null()) {
        const bool with_host = action.call.at_least(91);
        Fields fields = TRY(Fields::of(action.argument, "unshelve"));
        if (!with_host) {
            TRY(fields.require("availability_zone"));
        } else if (fields.json().size() == 0) {
            return invalid_input(
                "unshelve", action.argument,
                "It does not have enough properties: give availability_zone, host, "
                "or null instead of the object.");
        }
        if (fields.has("availability_zone")) {
            const auto zone = TRY(fields.optional_text("availability_zone", {1, 255}));
            if (!zone && !with_host) {
                return invalid_input("availability_zone", Json(), "None is not of type 'string'");
            }
            target.availability_zone = zone;
        }
        if (with_host && fields.json().contains("host")) {
            target.host = TRY(fields.text("host", {1, 255}));
            TRY(action.call.authorize(
                "os_compute_api:os-shelve:unshelve_to_host",
                {action.server->instance.project_id, action.server->instance.user_id}));
        }
        TRY(fields.finish());
    }
    return accepted(action.conductor().unshelve_server(action.context(), action.uuid(), target));
}

}  // namespace kumoi::api
