// The identity service's tables, as Database::migrate() runs them. Append only.
#pragma once

#include <string>
#include <vector>

namespace kumoi::compute::identity {

const std::vector<std::string>& schema();

}  // namespace kumoi::compute::identity
