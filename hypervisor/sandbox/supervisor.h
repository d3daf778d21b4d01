// The launcher's second life: once it has started the sandboxed process it waits for it, because
// the caller waits for the launcher: signals go in, the exit code comes out, and the files that a
// process without a file system cannot make or remove are made and removed here.
//
// SIGTERM and SIGINT sent to the launcher are passed on (as SI_QUEUE, so that a signal sent to both
// counts once); those of a terminal reach both by themselves. SIGKILL of either ends both. A
// machine that a signal ended ends the launcher by the same signal.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/fd.h"
#include "hypervisor/sandbox/broker.h"
#include "hypervisor/sandbox/left_files.h"

namespace kumoi::hypervisor {

constexpr int kForwardedSignal = 0x6b756d6f;  // the value that goes with one: "kumo"

struct SupervisorPlan {
    pid_t child = 0;
    UniqueFd requests;  // the broker's socket, until the machine has been made
    BrokerRules rules;
    std::string pid_file;             // written then; empty: none
    std::vector<std::string> remove;  // at the end: socket files
};

// SIGTERM, SIGINT and SIGCHLD must be blocked since before the fork.
[[noreturn]] void supervise(SupervisorPlan plan);

}  // namespace kumoi::hypervisor
