// Power sync: what to do when a guest's real power state is not what the records say (Nova's
// _sync_instance_power_state), as a table, and the task that does it. It follows every lifecycle
// event and the periodic comparison.
#pragma once

#include "compute/driver/virt_driver.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

enum class PowerSyncAction {
    Nothing,       // they agree, or an operation is under way
    RecordPower,   // only power_state in the records is old
    Stop,          // the guest went down by itself: the server becomes stopped
    ForceStop,     // it runs although its record says it must not: power it off
    RecordPaused,  // vm_state active <-> paused follows the guest
    RecordActive,
};

PowerSyncAction decide_power_sync(const Instance& instance, int real_power_state);

// Compares and acts, for one server. Runs on its queue.
Result<void> sync_power_state(NodeServices& services, const std::string& uuid);
// After an event of the driver: a crash is recorded as a fault before the states are compared.
Result<void> handle_lifecycle_event(NodeServices& services, const LifecycleEvent& event);

}  // namespace kumoi::compute
