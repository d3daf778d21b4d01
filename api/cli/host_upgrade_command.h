// kumoi host upgrade: running guests of this host go on in the kumoi-vmm that is installed now.
#pragma once

#include "api/cli/session.h"

namespace kumoi::cli {

void add_host_upgrade_verb(CLI::App* noun, Session& session);

}  // namespace kumoi::cli
