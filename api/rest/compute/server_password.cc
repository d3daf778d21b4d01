// The password of a server's administrator: set through the agent in the guest, and what is kept of
// it, encrypted for the server's key pair.
#include "compute/server_password.h"
#include "api/rest/compute/server_action.h"
#include "api/rest/schema.h"

namespace kumoi::api {

Result<Reply> change_password(const ActionCall& action) {
    Fields fields = TRY(Fields::of(action.argument, "changePassword"));
    const std::string password = TRY(fields.text("adminPass"));
    TRY(fields.finish());
    return accepted(
        action.conductor().set_server_password(action.context(), action.uuid(), password));
}

namespace {

Result<Reply> show_password(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-server-password:show"));
    return Reply::json(
        Json::object({{"password", compute::stored_password(server->instance.system_metadata)}}));
}

Result<Reply> clear_password(Call& call) {
    const auto server = TRY(call.server("os_compute_api:os-server-password:clear"));
    TRY(call.conductor().change_server(
        call.context(), server->instance.uuid, [](compute::Instance& instance) -> Result<void> {
            for (const auto& [key, piece] : compute::password_pieces("")) {
                instance.system_metadata.erase(key);
            }
            return {};
        }));
    return Reply::no_content();
}

}  // namespace

void add_server_password_routes(ComputeRoutes& routes) {
    routes.add("GET", "/servers/{server_id}/os-server-password", show_password);
    routes.add("DELETE", "/servers/{server_id}/os-server-password", clear_password);
}

}  // namespace kumoi::api
