// The admin socket of one node: what its driver can do and no cloud API knows. Wiring only.
#pragma once

#include <memory>
#include <string>

#include "api/admin_socket.h"
#include "api/node_driver.h"

namespace kumoi::api {

// STATE_PATH/admin.sock. Null where guests are simulated. The driver outlives it.
Result<std::unique_ptr<AdminSocket>> open_node_admin(const std::string& state_path,
                                                     const NodeDriver& node);

}  // namespace kumoi::api
