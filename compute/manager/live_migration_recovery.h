// What a node does about live migrations that its death, or that of the other host, cut short: the
// driver says whose each guest is, and the rest follows. docs/reference/live-migration.md has the
// table. HostRecovery and the manager's timer call these.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "compute/manager/verb.h"

namespace kumoi::compute {

bool is_live_migration_verb(std::string_view verb);
void continue_live_migration(NodeServices& services, const OpenOperation& open);

// A server of this host that is migrating, and no journal entry speaks for it.
bool is_live_migrating(const Instance& instance);
void settle_live_migration(NodeServices& services, const Instance& instance);

// Guests that were to come here and of which the records do not say that they have: those that are
// still awaited, or may be; and all.
struct Arrivals {
    std::set<std::string> awaited;
    std::set<std::string> all;
};
Arrivals arrivals(NodeServices& services, const std::vector<Instance>& recorded);
void settle_arrivals(NodeServices& services, const std::set<std::string>& uuids,
                     const std::function<void(const std::string&, std::function<void()>)>& submit);

}  // namespace kumoi::compute
