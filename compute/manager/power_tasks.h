// The verbs that move a server between active, stopped and paused (Nova's start_instance,
// stop_instance, pause_instance, unpause_instance) or set it aside. Each acts on the guest, then
// records the state with the task_state it expects; repeating one whose guest is already there is
// harmless.
#pragma once

#include "compute/manager/verb.h"

namespace kumoi::compute {

Result<void> start_task(NodeServices& services, const Operation& operation);
Result<void> stop_task(NodeServices& services, const Operation& operation, bool clean_shutdown);
Result<void> pause_task(NodeServices& services, const Operation& operation);
Result<void> unpause_task(NodeServices& services, const Operation& operation);
// Deferred delete (Nova's soft_delete_instance, restore_instance): off and kept, or on again.
Result<void> soft_delete_task(NodeServices& services, const Operation& operation);
Result<void> restore_task(NodeServices& services, const Operation& operation);
// Turns a guest on again that ran when the host went down; vm_state stays.
Result<void> resume_state_task(NodeServices& services, const Operation& operation);

// Seconds the guest of this server gets to shut down: image property os_shutdown_timeout, else the
// option shutdown_timeout; 0 when a clean shutdown is not wanted.
int64_t shutdown_timeout_of(const Instance& instance, const ManagerOptions& options, bool clean);

}  // namespace kumoi::compute
