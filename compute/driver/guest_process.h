// GuestProcess: the one kumoi-vmm process of one server: starting it, finding it again, ending it.
//
// That there is never more than one is the kernel's promise, not ours: `lock` in the server's
// folder is flock()ed before the process is started and the locked description is inherited by it,
// so the lock is held exactly as long as the process lives, whatever becomes of the daemon. The pid
// is only needed to kill it, and is believed only together with the process's start time. It is
// that of the sandboxed process; its launcher ends with it. Where several hosts share the folders,
// a process that another host wrote down is not ours: it is neither alive here nor ended from here,
// and while it lives its lock keeps ours from starting. Calls block; per server one thread at a
// time.
#pragma once

#include <sys/types.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/driver/instance_folder.h"
#include "hypervisor/control/control_client.h"

namespace kumoi::compute {

struct GuestProcessOptions {
    std::string vmm_path;  // the kumoi-vmm program
    std::string host;      // ours, in what is written down; empty: not told apart from others
    int64_t start_timeout_ms = 30'000;
    int64_t control_timeout_ms = 5'000;
};

class GuestProcess {
public:
    GuestProcess(const GuestProcessOptions& options, InstanceFolder folder, const Clock& clock)
        : options_(options), folder_(std::move(folder)), clock_(clock) {}

    // The lock says so, and it is ours. Error: the folder cannot be read.
    Result<bool> is_alive() const;
    // Starts the machine that guest.json describes and waits until it runs. Conflict when one
    // lives. `more`: arguments besides. `cgroup_procs`: as DaemonOptions has them.
    Result<void> start(const std::vector<std::string>& more = {},
                       const std::vector<std::string>& cgroup_procs = {}) const;
    // One request over the control socket; `passed` go along with it.
    Result<Json> call(std::string_view method, const Json& params = Json::object(),
                      std::span<const hypervisor::NamedDescriptor> passed = {}) const;
    // Of a process that start() has just started and that did not live for long: whether it ended
    // as a guest's power-off ends it. Nothing when it has not ended by then.
    std::optional<bool> ended_well(int64_t timeout_ms) const;
    // Waits for the end of the process; false when it still lives after the time.
    Result<bool> wait_end(int64_t timeout_ms) const;
    // Ends it now: asks the process to quit, then kills it. Fine when it is gone already.
    Result<void> stop() const;

private:
    struct Identity {
        pid_t pid = 0;
        uint64_t start_ticks = 0;
        pid_t launcher = 0;  // its parent, our child: kumoi-vmm outside of the sandbox
    };
    Result<void> wait_running(const Identity& process) const;
    Result<void> remember(const Identity& process) const;
    Result<void> remember_inner(Identity process) const;
    std::optional<Json> written_down() const;
    std::string other_host(const std::optional<Json>& record) const;
    std::optional<Identity> recorded() const;  // of the process that was started last
    std::optional<Identity> identity() const;  // of the living process, if it can be told
    Result<void> kill() const;
    std::string log_tail() const;

    const GuestProcessOptions& options_;
    const InstanceFolder folder_;
    const Clock& clock_;
};

}  // namespace kumoi::compute
