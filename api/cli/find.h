// find_one(): the record a user means: by id, by name, or by a unique beginning of either. Pure.
#pragma once

#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

// NotFound suggests the nearest name; several matches are a Conflict that lists them.
Result<Json> find_one(std::string_view kind, const Json::Array& records, std::string_view wanted,
                      std::string_view id_member = "id", std::string_view name_member = "name");

}  // namespace kumoi::cli
