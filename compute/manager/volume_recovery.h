// What a restarted node does about volumes: goes on with what was cut short, and ends back ends
// that serve nobody any more. Guests keep theirs.
#pragma once

#include <functional>
#include <map>
#include <mutex>
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

// Requests about volumes that the last run of this daemon took from the broker and lost before its
// journal knew of them. A minute after the start, when what waited in the broker has come, it looks
// what seems to wait; what still waits a minute later is lost: an attach and a detach are done, a
// swap is given up.
class LostVolumeRequests {
public:
    using Submit = std::function<void(const std::string& uuid, std::function<void()>)>;

    // Every minute, from one thread. `submit`: onto the server's queue, which ends before this.
    void look(NodeServices& services, const Submit& submit);

private:
    void look_at(NodeServices& services, const std::string& uuid, bool first);

    int round_ = 0;
    std::mutex mutex_;                                   // guards what follows
    std::map<std::string, std::set<std::string>> seen_;  // by server
};

}  // namespace kumoi::compute
