// What a restarted node does about volumes: goes on with what was cut short, and ends back ends
// that serve nobody any more. Guests keep theirs.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "compute/manager/verb.h"

namespace kumoi::compute {

// False when the journal's verb is none of the volumes'.
bool continue_volume_operation(NodeServices& services, const Operation& operation,
                               const OpenOperation& open);

// Back ends of servers that are not on this host, and of volumes that are not attached. Servers
// with an open operation (`busy`) are that operation's business.
void end_leftover_volumes(NodeServices& services, const std::vector<Instance>& instances,
                          const std::set<std::string>& busy);

}  // namespace kumoi::compute
