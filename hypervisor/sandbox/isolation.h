// The pieces of the sandbox that are not seccomp: each takes something away from the calling
// process for good. They are called by Sandbox (sandbox.h) in the order of the enum, on the only
// thread.
//
// A piece that this host or our rights do not allow is an error that says why; the caller decides
// whether the guest runs without it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace kumoi::hypervisor {

enum class SandboxPiece : uint8_t {
    Pid,       // a pid namespace: no other process can be named
    Mount,     // an empty, read-only root of its own
    Network,   // a network namespace without an interface
    Ipc,       // IPC, UTS and cgroup namespaces
    User,      // a user of its own
    Caps,      // no capability, none to be had again
    Landlock,  // no file system, no TCP, no signals to others, whatever the rest allows
    Seccomp,   // system call lists per thread
};
constexpr size_t kSandboxPieces = 8;
std::string_view to_string(SandboxPiece piece);  // "pid", "mount", ...
Result<SandboxPiece> sandbox_piece(std::string_view name);

// All with unshare(2). enter_user_namespace(): without root rights; whatever the others need.
Result<void> enter_user_namespace();
Result<void> enter_pid_namespace();  // of the children from now on
Result<void> enter_network_namespace();
Result<void> enter_ipc_namespaces();
Result<void> enter_empty_root();
// What running a program could give back: nothing. Before become_user(), which ends the right to.
Result<void> drop_bounding_set();
Result<void> become_user(uid_t uid, gid_t gid);
// All capability sets; no_new_privs; not dumpable.
Result<void> drop_privileges();
Result<void> close_landlock();

struct ProcessLimits {
    uint64_t descriptors = 1024;
    uint64_t threads = 0;  // of this user; 0: no limit (the user is shared)
};
Result<void> limit_resources(const ProcessLimits& limits);

}  // namespace kumoi::hypervisor
