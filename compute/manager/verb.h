// Verb: the wrappers Nova puts around every operation of a server, in one place. It writes the
// intent to the journal, opens the action event, runs the operation and closes both; when it failed
// it clears task_state and records a fault, except where another operation took the server over
// (UnexpectedTaskState) or it is gone (InstanceNotFound). Runs on a worker of the server's queue.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "compute/driver/virt_driver.h"
#include "compute/manager/conductor_api.h"
#include "compute/manager/journal.h"
#include "compute/manager/manager_options.h"
#include "compute/manager/network_api.h"
#include "compute/resources/resource_tracker.h"

namespace kumoi::compute {

// What tasks work with. Everything outlives them.
struct NodeServices {
    ConductorApi& conductor;
    NetworkApi& network;
    VifDriver& vifs;
    VirtDriver& driver;
    ResourceTracker& tracker;
    Journal& journal;
    const Clock& clock;
    const ManagerOptions& options;
};

// Which server, for whom, and under which journal entry a task runs.
struct Operation {
    RequestContext context;
    std::string uuid;
    uint64_t journal_id = 0;
};

struct VerbInfo {
    std::string_view verb;          // in the journal: "stop"
    std::string_view event;         // in the action's events: "compute_stop_instance"
    bool cleans_up_itself = false;  // its task decides about task_state and fault
};

namespace verbs {
constexpr VerbInfo kBuild{"build", "compute__do_build_and_run_instance", true};
constexpr VerbInfo kTerminate{"terminate", "compute_terminate_instance"};
constexpr VerbInfo kStart{"start", "compute_start_instance"};
constexpr VerbInfo kStop{"stop", "compute_stop_instance"};
constexpr VerbInfo kReboot{"reboot", "compute_reboot_instance"};
constexpr VerbInfo kPause{"pause", "compute_pause_instance"};
constexpr VerbInfo kUnpause{"unpause", "compute_unpause_instance"};
}  // namespace verbs

void run_verb(NodeServices& services, const VerbInfo& info, const RequestContext& context,
              const std::string& uuid,
              const std::function<Result<void>(const Operation&)>& operation);
// The same for an operation that the journal already knows: recovery continues it under its number,
// and closes the event that was opened before the crash.
void resume_verb(NodeServices& services, const VerbInfo& info, const Operation& operation,
                 const std::function<Result<void>(const Operation&)>& function);

bool is_unexpected_task_state(const Error& error);
bool is_instance_gone(const Error& error);
Fault fault_from(const Error& error, const Clock& clock);

// Power state as the driver sees it; kNoState when it knows no such guest.
int power_state_of(VirtDriver& driver, const Instance& instance);

// Makes the network devices of a server exist; returns its interfaces with their TAP names.
Result<std::vector<VifInfo>> plug_all(NodeServices& services, const Instance& instance);
// Takes them away again; goes on after a failure and returns the first.
Result<void> unplug_all(NodeServices& services, const Instance& instance);

}  // namespace kumoi::compute
