// Options of the connections of live migrations (docs/reference/migration-link.md).
#pragma once

#include "base/config.h"

namespace kumoi::compute {

void add_live_link_options(OptionTable& table);

}  // namespace kumoi::compute
