// The conductor's tables, as the list of statements Database::migrate() runs once each, in order.
// Append only: a statement that was released never changes.
#pragma once

#include <string>
#include <vector>

namespace kumoi::compute {

const std::vector<std::string>& conductor_schema();

}  // namespace kumoi::compute
