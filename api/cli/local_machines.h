// The machines of this host as their files and sockets show them: what `kumoi vm` works on while
// kumoi-compute is stopped. Each folder <instances>/<uuid>/ holds config.json, control.sock (the
// protocol of docs/reference/vmm-control.md), console.sock and console.log. Blocking, every wait
// has a deadline. A broken folder is shown as such and never hides the others.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

// Records for find_one() and output: id, name, state, vcpus, memory_mb, address, path, problem.
// state: running, paused, shutdown, crashed, created, stopped (no process), unknown (no answer).
Result<Json::Array> local_machines(const std::string& instances_path);

// One request to the machine's kumoi-vmm. Conflict when it does not run.
Result<Json> call_machine(const Json& machine, std::string_view method);
// Presses the power button and waits for the process to end; Timeout when the guest does not obey.
Result<void> power_off(const Json& machine, int64_t wait_ms);
// The end of the console log, `lines` lines (0: all that is kept).
Result<std::string> console_log(const Json& machine, size_t lines);
std::string last_lines(std::string_view text, size_t lines);

}  // namespace kumoi::cli
