// Plugging a new server's interfaces and waiting until its networks carry them: Neutron says so
// with network-vif-plugged, one event a port, for each port that was not active when it was bound.
#pragma once

#include "compute/manager/verb.h"

namespace kumoi::compute {

// As plug_all(). With vif_plugging_is_fatal a missing event is VirtualInterfaceCreateException;
// else it is logged and the server starts all the same. Without services.events nothing
// is waited for.
Result<std::vector<VifInfo>> plug_and_wait(NodeServices& services, const Instance& instance);

}  // namespace kumoi::compute
