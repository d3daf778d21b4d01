// run_command_line(): one run of kumoi: parse, act, answer with an exit code. CLI11's exceptions
// stop here.
#pragma once

#include <string>
#include <vector>

#include "api/cli/session.h"

namespace kumoi::cli {

// `arguments` without the program's name.
int run_command_line(const std::vector<std::string>& arguments, Session& session);

}  // namespace kumoi::cli
