// A YAML file's one document as JSON, with YAML's usual types (null, booleans, numbers, text). Of
// hostile input no more than `nodes_max` nodes are made, aliases counted where they stand. Pure.
#pragma once

#include <cstddef>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::clients {

Result<Json> yaml_to_json(std::string_view text, size_t nodes_max = 100'000);

}  // namespace kumoi::clients
