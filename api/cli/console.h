// attach_console(): this terminal on the serial console socket of a guest, raw, until the user
// types Ctrl-] or the guest goes away.
#pragma once

#include <string>

#include "api/cli/output.h"
#include "base/fd.h"
#include "base/result.h"

namespace kumoi::cli {

// Without a terminal on stdin (a pipe) it copies until stdin or the guest ends.
Result<void> attach_console(const Output& out, const std::string& socket_path);

// A blocking stream connection to a unix socket.
Result<UniqueFd> connect_unix(const std::string& path);

}  // namespace kumoi::cli
