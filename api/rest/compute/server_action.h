// The actions of a server that are more than a name: each a function from an ActionCall to a Reply,
// listed in the table of server_actions.cc and defined in the file named beside it.
#pragma once

#include "api/rest/compute/compute_api.h"

namespace kumoi::api {

struct ActionCall {
    Call& call;
    const compute::InstancePtr& server;
    const Json& argument;  // the value behind the action's name

    compute::Conductor& conductor() const { return call.conductor(); }
    const std::string& uuid() const { return server->instance.uuid; }
    compute::RequestContext context() const { return call.context(); }
};

inline Result<Reply> accepted(Result<void> outcome) {
    TRY(std::move(outcome));
    return Reply::accepted();
}

// server_image_actions.cc
Result<Reply> create_image(const ActionCall& action);
Result<Reply> create_backup(const ActionCall& action);
// remote_consoles.cc: up to microversion 2.5
Result<Reply> get_vnc_console(const ActionCall& action);
Result<Reply> get_serial_console(const ActionCall& action);
Result<Reply> get_spice_console(const ActionCall& action);
// server_rebuild.cc
Result<Reply> rebuild(const ActionCall& action);
Result<Reply> rescue(const ActionCall& action);
// server_password.cc
Result<Reply> change_password(const ActionCall& action);
// server_moves.cc
Result<Reply> migrate_live(const ActionCall& action);
Result<Reply> evacuate(const ActionCall& action);
// server_resize.cc
Result<Reply> resize(const ActionCall& action);
Result<Reply> migrate(const ActionCall& action);
Result<Reply> confirm_resize(const ActionCall& action);
Result<Reply> revert_resize(const ActionCall& action);
Result<Reply> unshelve(const ActionCall& action);

}  // namespace kumoi::api
