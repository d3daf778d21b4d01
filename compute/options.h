// The one table of kumoi-compute's configuration options: names, types, defaults, ranges and help.
// Nova's option names where Nova has the option. docs/reference/configuration.md is made from it
// (`kumoi-compute --describe-options`).
#pragma once

#include <string>

#include "base/config.h"

namespace kumoi::compute {

const OptionTable& options();
OptionTable option_table();  // the same, for whoever adds to it (api/options.h)
std::string describe_options(const OptionTable& table);  // Markdown

}  // namespace kumoi::compute
