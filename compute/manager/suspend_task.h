// Suspend and resume (Nova's suspend_instance, resume_instance): the guest's whole state goes to a
// file in the server's folder and comes back from it. A suspend that fails leaves the guest
// running; a resume that fails leaves the server suspended, so that it can be tried again.
#pragma once

#include "compute/manager/verb.h"

namespace kumoi::compute {

Result<void> suspend_task(NodeServices& services, const Operation& operation);
Result<void> resume_task(NodeServices& services, const Operation& operation);

}  // namespace kumoi::compute
