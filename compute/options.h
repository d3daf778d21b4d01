// The one table of kumoi-compute's configuration options: names, types, defaults, ranges and help.
// Nova's option names where Nova has the option. docs/reference/configuration.md is made from it
// (`kumoi-compute --describe-options`).
#pragma once

#include <string>

#include "base/config.h"

namespace kumoi::compute {

const OptionTable& options();
std::string describe_options();  // Markdown

}  // namespace kumoi::compute
