// The exception classes of nova.exception in Zed and 2026.1 and the HTTP status each stands for.
// A failure of any other class reaches a Nova caller as an unknown remote error.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace kumoi::amqp {

// The `code` of the class; nothing when nova.exception has no such class.
std::optional<int64_t> nova_exception_status(std::string_view class_name);

}  // namespace kumoi::amqp
