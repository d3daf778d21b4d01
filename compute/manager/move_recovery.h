// What a node does at start about servers that were moving when it stopped, and about those that
// were evacuated from it meanwhile (HostRecovery calls these; a standalone node never does). The
// general rules are host_recovery.h's.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "compute/manager/verb.h"

namespace kumoi::compute {

bool is_move_verb(std::string_view verb);
void continue_move(NodeServices& services, const OpenOperation& open);

// A task_state of a move, on a server of this host that no journal entry speaks for.
bool is_moving(const Instance& instance);
void settle_move(NodeServices& services, const Instance& instance);

// Servers that left this host and whose disks are kept here: what was asked about them and got lost
// with the daemon is found in the records, and done. `busy`: those the journal speaks for.
void settle_kept(NodeServices& services, const std::set<std::string>& busy,
                 const std::function<void(const std::string& uuid, std::function<void()>)>& submit);

// Guests and disks of servers that live elsewhere now go; disks that both hosts use stay. Returns
// those whose record is still this host's because another one is taking them over just now: their
// guests end, and nothing else is done with them.
std::set<std::string> remove_evacuated(NodeServices& services);

}  // namespace kumoi::compute
