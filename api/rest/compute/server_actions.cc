// POST /servers/{id}/action: one object with one member that names the action. The table says who
// may, from which to which microversion, and what answers; actions of Nova that this service does
// not offer are refused with a sentence about what to do instead.
#include <algorithm>
#include <array>

#include "api/rest/compute/resources.h"
#include "api/rest/compute/server_action.h"
#include "api/rest/compute/server_view.h"
#include "api/rest/schema.h"
#include "compute/vm_states.h"

namespace kumoi::api {
namespace {

using compute::InstancePtr;

Result<Reply> os_start(const ActionCall& action) {
    return accepted(action.conductor().start_server(action.call.context(), action.uuid()));
}

Result<Reply> os_stop(const ActionCall& action) {
    return accepted(action.conductor().stop_server(action.call.context(), action.uuid()));
}

Result<Reply> pause(const ActionCall& action) {
    return accepted(action.conductor().pause_server(action.call.context(), action.uuid()));
}

Result<Reply> unpause(const ActionCall& action) {
    return accepted(action.conductor().unpause_server(action.call.context(), action.uuid()));
}

Result<Reply> reboot(const ActionCall& action) {
    Fields fields = TRY(Fields::of(action.argument, "reboot"));
    const std::string type = TRY(fields.text("type"));
    TRY(fields.finish());
    const bool soft = equal_ignoring_case(type, "SOFT");
    if (!soft && !equal_ignoring_case(type, "HARD")) {
        return invalid_input("type", Json(type),
                             fmt::format("'{}' is not one of ['HARD', 'Hard', 'hard', 'SOFT', "
                                         "'Soft', 'soft']",
                                         type));
    }
    return accepted(action.conductor().reboot_server(
        action.call.context(), action.uuid(),
        soft ? compute::RebootType::Soft : compute::RebootType::Hard));
}

Result<Reply> suspend(const ActionCall& action) {
    return accepted(action.conductor().suspend_server(action.context(), action.uuid()));
}

Result<Reply> resume(const ActionCall& action) {
    return accepted(action.conductor().resume_server(action.context(), action.uuid()));
}

Result<Reply> unrescue(const ActionCall& action) {
    return accepted(action.conductor().unrescue_server(action.context(), action.uuid()));
}

Result<Reply> shelve(const ActionCall& action) {
    return accepted(action.conductor().shelve_server(action.context(), action.uuid()));
}

Result<Reply> shelve_offload(const ActionCall& action) {
    return accepted(action.conductor().shelve_offload_server(action.context(), action.uuid()));
}

Result<Reply> restore(const ActionCall& action) {
    return accepted(action.conductor().restore_server(action.context(), action.uuid()));
}

Result<Reply> lock(const ActionCall& action) {
    std::optional<std::string> reason;
    if (action.call.at_least(73) && action.argument.is_object()) {
        Fields fields = TRY(Fields::of(action.argument, "lock"));
        reason = TRY(fields.optional_text("locked_reason", {1, 255}));
        TRY(fields.finish());
    }
    return accepted(action.conductor().lock_server(action.call.context(), action.uuid(), reason));
}

Result<Reply> unlock(const ActionCall& action) {
    return accepted(action.conductor().unlock_server(action.call.context(), action.uuid()));
}

Result<Reply> force_delete(const ActionCall& action) {
    return accepted(action.conductor().delete_server(action.call.context(), action.uuid(), true));
}

Result<Reply> get_console_output(const ActionCall& action) {
    int64_t length = -1;
    if (action.argument.is_object()) {
        Fields fields = TRY(Fields::of(action.argument, "os-getConsoleOutput"));
        length = TRY(fields.optional_integer("length", {-1, INT32_MAX})).value_or(-1);
        TRY(fields.finish());
    }
    const std::string output =
        TRY(action.conductor().console_output(action.call.context(), action.uuid(), length));
    return Reply::json(Json::object({{"output", output}}));
}

Result<Reply> reset_state(const ActionCall& action) {
    Fields fields = TRY(Fields::of(action.argument, "os-resetState"));
    const std::string state = TRY(fields.text("state"));
    TRY(fields.finish());
    if (state != "active" && state != "error") {
        return invalid_input("state", Json(state),
                             fmt::format("'{}' is not one of ['active', 'error']", state));
    }
    return accepted(action.conductor().reset_state(
        action.call.context(), action.uuid(),
        state == "active" ? compute::vm_states::kActive : compute::vm_states::kError));
}

// Nova's actions that need something this release does not have yet.
Result<Reply> not_offered(const ActionCall&) {
    return Error::unsupported("This action is not offered by this service yet.");
}

struct ActionEntry {
    std::string_view name;
    std::string_view rule;
    Result<Reply> (*run)(const ActionCall& action);
    VersionRange range = {};
};

constexpr std::array<ActionEntry, 36> kActions = {{
    {"os-start", "os_compute_api:servers:start", os_start},
    {"os-stop", "os_compute_api:servers:stop", os_stop},
    {"reboot", "os_compute_api:servers:reboot", reboot},
    {"pause", "os_compute_api:os-pause-server:pause", pause},
    {"unpause", "os_compute_api:os-pause-server:unpause", unpause},
    {"lock", "os_compute_api:os-lock-server:lock", lock},
    {"unlock", "os_compute_api:os-lock-server:unlock", unlock},
    {"forceDelete", "os_compute_api:os-deferred-delete:force", force_delete},
    {"os-getConsoleOutput", "os_compute_api:os-console-output", get_console_output},
    {"os-resetState", "os_compute_api:os-admin-actions:reset_state", reset_state},
    {"addSecurityGroup", "os_compute_api:os-security-groups:add", not_offered},
    {"removeSecurityGroup", "os_compute_api:os-security-groups:remove", not_offered},
    {"changePassword", "os_compute_api:os-admin-password", change_password},
    {"confirmResize", "os_compute_api:servers:confirm_resize", confirm_resize},
    {"createBackup", "os_compute_api:os-create-backup", create_backup},
    {"createImage", "os_compute_api:servers:create_image", create_image},
    {"evacuate", "os_compute_api:os-evacuate", evacuate},
    {"injectNetworkInfo", "os_compute_api:os-admin-actions:inject_network_info", not_offered},
    {"migrate", "os_compute_api:os-migrate-server:migrate", migrate},
    {"os-getSerialConsole", "os_compute_api:os-remote-consoles", get_serial_console, {1, 5}},
    {"os-getSPICEConsole", "os_compute_api:os-remote-consoles", get_spice_console, {1, 5}},
    {"os-getVNCConsole", "os_compute_api:os-remote-consoles", get_vnc_console, {1, 5}},
    {"os-migrateLive", "os_compute_api:os-migrate-server:migrate_live", migrate_live},
    {"rebuild", "os_compute_api:servers:rebuild", rebuild},
    {"rescue", "os_compute_api:os-rescue", rescue},
    {"resize", "os_compute_api:servers:resize", resize},
    {"restore", "os_compute_api:os-deferred-delete:restore", restore},
    {"resume", "os_compute_api:os-suspend-server:resume", resume},
    {"revertResize", "os_compute_api:servers:revert_resize", revert_resize},
    {"shelve", "os_compute_api:os-shelve:shelve", shelve},
    {"shelveOffload", "os_compute_api:os-shelve:shelve_offload", shelve_offload},
    {"suspend", "os_compute_api:os-suspend-server:suspend", suspend},
    {"trigger_crash_dump", "os_compute_api:servers:trigger_crash_dump", not_offered, {17, 96}},
    {"unrescue", "os_compute_api:os-unrescue", unrescue},
    {"unshelve", "os_compute_api:os-shelve:unshelve", unshelve},
    {"resetNetwork", "os_compute_api:os-admin-actions:inject_network_info", not_offered},
}};

Result<Reply> server_action(Call& call) {
    const Json body = TRY(call.body());
    // Also for an unknown action: whose server this is must not show in the answer.
    const InstancePtr visible = TRY(call.server("os_compute_api:servers:show"));
    if (body.size() != 1) {
        return Error::invalid("Malformed request body: one action is expected, {} were given.",
                              body.size());
    }
    const auto& [name, argument] = body.as_object().front();
    const auto* const entry =
        std::find_if(kActions.begin(), kActions.end(),
                     [&](const ActionEntry& candidate) { return candidate.name == name; });
    if (entry == kActions.end()) {
        return Error::invalid("There is no such action: {}", name);
    }
    if (call.version.minor < entry->range.min || call.version.minor > entry->range.max) {
        return Error::not_found("API version '{}' is not supported on this method.",
                                call.version.text());
    }
    const InstancePtr server = TRY(call.server(entry->rule));
    return entry->run({call, server, argument});
}

}  // namespace

void add_server_action_routes(ComputeRoutes& routes) {
    routes.add("POST", "/servers/{server_id}/action", server_action);
}

}  // namespace kumoi::api
