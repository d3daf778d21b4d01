// The verbs of `kumoi host maintenance`.
#pragma once

#include "api/cli/session.h"

namespace kumoi::cli {

void add_host_maintenance_verbs(CLI::App* noun, Session& session);

}  // namespace kumoi::cli
