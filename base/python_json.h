// JSON text as Python's json.dumps writes it, because that is what every other OpenStack process
// puts on the wire: ", " and ": " between members, everything outside printable ASCII as \uXXXX.
// Our messages are then byte for byte those of a Python process with the same member order.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace kumoi {

std::string python_dump(const Json& json);
void python_dump_to(std::string& out, const Json& json);
// One quoted string. Bytes that are not UTF-8 become U+FFFD.
void python_dump_string(std::string& out, std::string_view text);

}  // namespace kumoi
