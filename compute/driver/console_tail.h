// The end of a server's console log, as text that may go into JSON.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "compute/driver/instance_folder.h"

namespace kumoi::compute {

// The last `lines` lines (negative: all), of at most the last `size_max` bytes. A server that never
// ran has an empty console.
Result<std::string> console_tail(const InstanceFolder& folder, int64_t lines, uint64_t size_max);

// Bytes that are not UTF-8 become '?', NUL is dropped.
std::string to_utf8(std::string_view bytes);

// The last `lines` lines of a text; negative: all of it. As Nova counts them: what follows the last
// newline is a line too, if an empty one.
std::string last_lines(std::string text, int64_t lines);

}  // namespace kumoi::compute
