// Shell completion scripts, written from the parser itself, so they are never out of date. Pure.
#pragma once

#include <string>

#include "base/result.h"

namespace CLI {
class App;
}

namespace kumoi::cli {

// `shell`: bash, zsh or fish.
Result<std::string> completion_script(const CLI::App& app, const std::string& shell);

}  // namespace kumoi::cli
