// The verbs of `kumoi server` that change what a server is made of.
#pragma once

#include "api/cli/session.h"

namespace kumoi::cli {

void add_server_lifecycle_verbs(CLI::App* noun, Session& session);
// migrate, and migration list, show, abort, force-complete: server_migration_command.cc
void add_server_migration_verbs(CLI::App* noun, Session& session);

}  // namespace kumoi::cli
