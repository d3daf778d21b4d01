// What the node does when another service tells it something about a server (Nova's
// external_instance_event), on that server's queue. A server that is not this host's, or no longer
// there, is left alone.
#pragma once

#include <string>

#include "compute/manager/compute_api.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

// network-changed: the addresses and bindings of the cards the server has are read again. A port
// that nobody attached, and one that is gone, wait for the verb or event that says so.
Result<void> refresh_network_task(NodeServices& services, const RequestContext& context,
                                  const std::string& uuid);
// network-vif-deleted: the port is no more; its card and device go.
Result<void> vif_deleted_task(NodeServices& services, const std::string& uuid,
                              const std::string& port_id);
// power-update: as start or stop, when the server is off or on and nothing works on it.
Result<void> power_update_task(NodeServices& services, const RequestContext& context,
                               const std::string& uuid, bool on);

}  // namespace kumoi::compute
