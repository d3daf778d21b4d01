// Reading and writing sockets that do not block, as the relays of consoles do it. Any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::api {

// What the socket takes now; the rest stays in `waiting`. `to` is for messages.
Result<void> send_some(int fd, std::string& waiting, std::string_view to);
// Nothing: not now. Empty: the end.
Result<std::optional<std::string>> receive_some(int fd, std::string_view from);
// A connection to a unix socket that must be there already.
Result<UniqueFd> connect_unix(const std::string& path);

}  // namespace kumoi::api
