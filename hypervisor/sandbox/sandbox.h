// Sandbox: the way from a process with its caller's rights to one that can only run its guest.
//
//     TRY(open_host_files(...));                    // launcher.h: while we still can
//     TRY(sandbox.enter(plan));                     // forks: the launcher never comes back,
//     ...                                           //   the inner process goes on here
//     TRY(sandbox.close());                         // seccomp: from now on only what is listed
//
// enter() takes the pieces of isolation.h in turn. One that is not to be had here is logged and
// left out, unless the configuration requires it. Between enter() and close() the process makes
// what the filters will forbid: signal descriptors, io_uring rings. Control thread only, before any
// other is started. docs/reference/sandbox.md.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/sandbox/broker.h"
#include "hypervisor/sandbox/sandbox_config.h"

namespace kumoi::hypervisor {

struct SandboxPlan {
    SandboxConfig config;
    std::vector<std::string> socket_files;  // removed when the process has ended
    std::string pid_file;                   // written when machine_made() is called
    uint64_t threads = 0;                   // this machine may need
    BrokerRules rules;                      // what the machine may still ask for
};

class Sandbox {
public:
    explicit Sandbox(SandboxMode mode) : mode_(mode) {}

    SandboxMode mode() const { return mode_; }
    void set_mode(SandboxMode mode) { mode_ = mode; }  // before enter()
    bool entered() const { return entered_; }
    // Returns in the inner process only. An error: in the caller's process before the fork (try
    // again is possible), in the inner one after it (end).
    Result<void> enter(const SandboxPlan& plan);
    Result<void> close();
    // Answers with what the launcher opens; until machine_made().
    FileSource& files() { return broker_; }
    // The guest may run: nothing is opened any more, and the launcher writes the pid file.
    void machine_made();
    pid_t pid() const { return pid_; }  // as the host sees this process

private:
    Result<void> isolate(const SandboxPlan& plan);
    Result<void> take(SandboxPiece piece, const Result<void>& result);
    Result<void> die_with_launcher() const;

    SandboxMode mode_;
    bool entered_ = false;
    bool root_ = false;
    pid_t pid_ = 0;
    uid_t uid_ = 0;
    BrokerFiles broker_{UniqueFd()};
    std::vector<SandboxPiece> required_;
    std::vector<SandboxPiece> missing_;
};

// Closes what was open before this program started, but for `kept`. First thing in main().
void close_inherited_descriptors(const std::vector<int>& kept);

}  // namespace kumoi::hypervisor
