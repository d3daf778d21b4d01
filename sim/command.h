// What the commands of kumoi-sim share.
#pragma once

#include <functional>

#include "base/result.h"

namespace kumoi::sim {

// What the chosen command does once the command line is read; prints its results on stdout.
using Action = std::function<Result<void>()>;

}  // namespace kumoi::sim
