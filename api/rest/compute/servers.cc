// Servers: create, show, update, delete. Lists are in server_list.cc, actions in server_actions.cc.
#include "api/rest/compute/resources.h"
#include "api/rest/compute/server_create.h"
#include "api/rest/compute/server_view.h"
#include "api/rest/schema.h"

namespace kumoi::api {
namespace {

using compute::Instance;

Result<Reply> create_servers(Call& call) {
    TRY(call.authorize("os_compute_api:servers:create"));
    const Json body = TRY(call.body());
    const ParsedCreate parsed = TRY(parse_server_create(call, body));
    const compute::CreatedServers created = TRY(call.conductor().create_servers(parsed.servers));
    const Instance& first = created.servers.front();
    const std::string location = fmt::format("{}/servers/{}", call.versioned_url(), first.uuid);
    if (parsed.return_reservation_id) {
        return Reply::json(Json::object({{"reservation_id", created.reservation_id}}), 202)
            .with_header("Location", location);
    }
    Json groups = Json::array();
    for (const std::string& name : first.security_groups) {
        groups.push_back(Json::object({{"name", name}}));
    }
    Json server = Json::object({{"id", first.uuid},
                                {"links", call.links("servers", first.uuid)},
                                {"OS-DCF:diskConfig", first.auto_disk_config ? "AUTO" : "MANUAL"},
                                {"security_groups", std::move(groups)},
                                {"adminPass", parsed.servers.admin_password}});
    return Reply::json(Json::object({{"server", std::move(server)}}), 202)
        .with_header("Location", location);
}

Result<Reply> show_server(Call& call) {
    const auto stored = TRY(call.server("os_compute_api:servers:show"));
    return Reply::json(
        Json::object({{"server", server_view(call, stored->instance, ServerForm::Show)}}));
}

Result<Reply> update_server(Call& call) {
    const auto stored = TRY(call.server("os_compute_api:servers:update"));
    const Json body = TRY(call.body());
    Fields fields = TRY(Fields::root(body, "server"));
    const auto name = TRY(fields.optional_name("name"));
    const auto disk_config = TRY(parse_disk_config(fields));
    const auto access_ip_v4 = TRY(parse_access_ip(fields, "accessIPv4", 4));
    const auto access_ip_v6 = TRY(parse_access_ip(fields, "accessIPv6", 6));
    const bool with_description = call.at_least(19) && fields.has("description");
    const auto description = with_description ? TRY(fields.optional_text("description", {0, 255}))
                                              : std::optional<std::string>();
    const auto hostname = TRY(parse_hostname(fields, call.version));
    TRY(fields.finish());
    if (disk_config && *disk_config != stored->instance.auto_disk_config) {
        return Error::invalid("OS-DCF:diskConfig is chosen when the server is created.");
    }
    const auto changed = TRY(call.conductor().change_server(
        call.context(), stored->instance.uuid, [&](Instance& instance) -> Result<void> {
            instance.display_name = name.value_or(instance.display_name);
            instance.access_ip_v4 = access_ip_v4.value_or(instance.access_ip_v4);
            instance.access_ip_v6 = access_ip_v6.value_or(instance.access_ip_v6);
            instance.hostname = hostname.value_or(instance.hostname);
            if (with_description) {
                instance.display_description = description;
            }
            return {};
        }));
    return Reply::json(
        Json::object({{"server", server_view(call, changed->instance, ServerForm::Update)}}));
}

Result<Reply> delete_server(Call& call) {
    const auto stored = TRY(call.server("os_compute_api:servers:delete"));
    TRY(call.conductor().delete_server(call.context(), stored->instance.uuid, false));
    return Reply::no_content();
}

}  // namespace

void add_server_routes(ComputeRoutes& routes) {
    routes.add("POST", "/servers", create_servers);
    routes.add("GET", "/servers/{server_id}", show_server);
    routes.add("PUT", "/servers/{server_id}", update_server);
    routes.add("DELETE", "/servers/{server_id}", delete_server);
}

}  // namespace kumoi::api
