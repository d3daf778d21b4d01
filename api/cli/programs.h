// find_kumoi_program(): kumoi's other programs: beside this one (also in a build tree), else in
// PATH.
#pragma once

#include <string>

#include "base/result.h"

namespace kumoi::cli {

Result<std::string> find_kumoi_program(const std::string& name);

}  // namespace kumoi::cli
