// What needs the agent in a guest: Nova's set_admin_password, and file systems that stand still.
#pragma once

#include <string>
#include <vector>

#include "compute/manager/verb.h"

namespace kumoi::compute {

// Ends with Nova's exceptions: what went wrong in the guest is logged and told to nobody. The
// password, encrypted for the server's RSA key, is kept for `nova get-password`.
Result<void> set_password_task(NodeServices& services, const Operation& operation,
                               const std::string& password);
// After a crash: nobody knows the password any more, nor whether the guest has it.
Result<void> give_up_password(NodeServices& services, const Operation& operation);

// Waits, within bounds, for snapshots of volumes; one that cannot be asked for is not waited for.
void wait_for_snapshots(NodeServices& services, const RequestContext& context,
                        const std::vector<std::string>& snapshot_ids);
// A node that died while it took an image may have left the guest's file systems frozen.
void thaw_after_restart(NodeServices& services, const Instance& instance);

}  // namespace kumoi::compute
