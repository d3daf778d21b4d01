// Runs another program without a shell: argv in, exit status and bounded output out. Standard input
// is what the caller gives (or /dev/null), descriptors other than 0-2 are closed. Thread safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "base/result.h"

namespace kumoi {

struct CommandOptions {
    std::string input;             // written to standard input
    int64_t timeout_ms = 60'000;   // then SIGKILL and ErrorCode::Timeout
    size_t output_max = 4u << 20;  // bytes kept of each of stdout and stderr
    std::string directory;         // working directory; empty: ours
};

struct CommandOutput {
    int exit_code = -1;  // 128 + signal when killed by one
    std::string out;
    std::string err;
};

// Error only when the program could not be run or timed out; a non-zero exit is in exit_code.
Result<CommandOutput> run_command(const std::vector<std::string>& argv,
                                  const CommandOptions& options = {});
// The same, but a non-zero exit is an error that quotes the end of stderr. Returns stdout.
Result<std::string> run_checked(const std::vector<std::string>& argv,
                                const CommandOptions& options = {});

struct DaemonOptions {
    std::string log_path;            // stdout and stderr are appended here; empty: /dev/null
    std::vector<int> inherited_fds;  // kept open under the same numbers
    std::string directory;
    bool new_session = true;  // setsid(): survives us, gets no terminal signals
    // Cgroup::procs_files(): the program is in these groups before its first instruction.
    std::vector<std::string> cgroup_procs;
};

// Starts a program that lives on its own (the child of init once we are gone). Returns its pid; the
// caller reaps it while both live (waitpid), or lets SIGCHLD be ignored.
Result<pid_t> spawn_daemon(const std::vector<std::string>& argv, const DaemonOptions& options = {});

bool process_alive(pid_t pid);  // a zombie is not alive
// Kernel start time of the process in clock ticks since boot (field 22 of /proc/pid/stat): with the
// pid it identifies a process across pid reuse.
Result<uint64_t> process_start_ticks(pid_t pid);
Result<std::string> find_program(std::string_view name);  // in $PATH and the sbin directories

}  // namespace kumoi
