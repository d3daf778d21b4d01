// Consoles: POST /servers/{id}/remote-consoles (2.6), the actions before it, and what a token
// opens, for administrators.
#include <array>

#include "api/rest/compute/resources.h"
#include "api/rest/compute/server_action.h"
#include "api/rest/schema.h"
#include "compute/conductor/console_auth.h"

namespace kumoi::api {
namespace {

using compute::RemoteConsole;

Error type_unavailable(std::string_view type) {
    return Error::invalid("Unavailable console type {}.", type)
        .with_hint("This service has novnc and serial consoles.")
        .with_fault("ConsoleTypeUnavailable");
}

Result<compute::ConsoleAuth*> consoles_of(const Call& call, std::string_view type) {
    if (call.services.consoles == nullptr) {
        return type_unavailable(type);
    }
    return call.services.consoles;
}

template <size_t count>
Result<void> check_one_of(const std::string& name, const std::string& value,
                          const std::array<std::string_view, count>& known) {
    std::string list;
    for (const std::string_view one : known) {
        if (one == value) {
            return {};
        }
        list += fmt::format("{}'{}'", list.empty() ? "" : ", ", one);
    }
    return invalid_input(name, Json(value), fmt::format("'{}' is not one of [{}]", value, list));
}

Result<RemoteConsole> console_of(const Call& call, const std::string& uuid,
                                 const std::string& protocol, const std::string& type) {
    compute::ConsoleAuth* consoles = TRY(consoles_of(call, type));
    if (protocol == "vnc") {
        return consoles->get_vnc_console(call.context(), uuid, type);
    }
    if (protocol == "serial") {
        return consoles->get_serial_console(call.context(), uuid, type);
    }
    return type_unavailable(type);
}

Result<Reply> create_remote_console(Call& call) {
    static constexpr std::array<std::string_view, 5> kProtocols{"vnc", "spice", "rdp", "serial",
                                                                "mks"};
    static constexpr std::array<std::string_view, 6> kTypes{"novnc",     "xvpvnc", "spice-html5",
                                                            "rdp-html5", "serial", "webmks"};
    const Json body = TRY(call.body());
    const compute::InstancePtr server = TRY(call.server("os_compute_api:os-remote-consoles"));
    Fields fields = TRY(Fields::root(body, "remote_console"));
    const std::string protocol = TRY(fields.text("protocol"));
    const std::string type = TRY(fields.text("type"));
    TRY(fields.finish());
    TRY(check_one_of("protocol", protocol, kProtocols));
    TRY(check_one_of("type", type, kTypes));
    if (!call.at_least(8) && protocol == "mks") {
        return invalid_input("protocol", Json(protocol), "'mks' exists from 2.8 on");
    }
    const RemoteConsole console = TRY(console_of(call, server->instance.uuid, protocol, type));
    return Reply::json(Json::object(
        {{"remote_console",
          Json::object(
              {{"protocol", console.protocol}, {"type", console.type}, {"url", console.url}})}}));
}

Result<Reply> console_action(const ActionCall& action, const std::string& name,
                             const std::string& protocol) {
    Fields fields = TRY(Fields::of(action.argument, name));
    const std::string type = TRY(fields.text("type"));
    TRY(fields.finish());
    const RemoteConsole console = TRY(console_of(action.call, action.uuid(), protocol, type));
    return Reply::json(
        Json::object({{"console", Json::object({{"type", console.type}, {"url", console.url}})}}));
}

// Before 2.31 Nova shows tokens of RDP consoles only, of which there are none here.
Result<Reply> show_token(Call& call) {
    TRY(call.authorize("os_compute_api:os-console-auth-tokens"));
    if (!call.at_least(31)) {
        return Error::invalid("The requested console type details are not accessible")
            .with_hint("Use microversion 2.31 or later.");
    }
    compute::ConsoleAuth* consoles = TRY(consoles_of(call, "token"));
    const compute::ConsoleToken token = TRY(consoles->validate(call.parameter("console_token")));
    return Reply::json(Json::object(
        {{"console", Json::object({{"instance_uuid", token.instance_uuid},
                                   {"host", token.connection.host},
                                   {"port", nullptr},
                                   {"internal_access_path", token.connection.socket}})}}));
}

}  // namespace

Result<Reply> get_vnc_console(const ActionCall& action) {
    return console_action(action, "os-getVNCConsole", "vnc");
}

Result<Reply> get_serial_console(const ActionCall& action) {
    return console_action(action, "os-getSerialConsole", "serial");
}

Result<Reply> get_spice_console(const ActionCall& action) {
    return console_action(action, "os-getSPICEConsole", "spice");
}

void add_remote_console_routes(ComputeRoutes& routes) {
    routes.add("POST", "/servers/{server_id}/remote-consoles", create_remote_console, {6, 96});
    routes.add("GET", "/os-console-auth-tokens/{console_token}", show_token);
}

}  // namespace kumoi::api
