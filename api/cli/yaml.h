// parse_yaml(): the part of YAML that people write in clouds.yaml: block mappings and block lists
// of scalars or mappings, plain, 'single' and "double" quoted scalars, comments, and JSON for flow
// collections. Scalars come out as strings (null and ~ as null, true and false as booleans).
// Anchors, tags, block scalars (| and >) and several documents are refused, never guessed at.
// Hostile-input safe: depth and size are bounded. Pure.
#pragma once

#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

// Errors name the line.
Result<Json> parse_yaml(std::string_view text);

}  // namespace kumoi::cli
