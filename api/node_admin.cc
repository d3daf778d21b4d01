#include "api/node_admin.h"

namespace kumoi::api {

Result<std::unique_ptr<AdminSocket>> open_node_admin(const std::string& state_path,
                                                     const NodeDriver& node) {
    if (!node.upgrade_guest) {
        return std::unique_ptr<AdminSocket>();
    }
    AdminSocket::Node doings;
    doings.servers = [&driver = *node.driver] { return driver.list_instance_uuids(); };
    doings.upgrade = node.upgrade_guest;
    return AdminSocket::listen(state_path + "/admin.sock", std::move(doings));
}

}  // namespace kumoi::api
