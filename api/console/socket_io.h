// Reading and writing sockets that do not block, as the relays of consoles do it. Any thread.
#pragma once

#include <cstdint>
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
// Bytes kept of one side for the other; a side that does not read stops the other there.
constexpr size_t kRelayWaitingMax = 256u << 10;
// What a relay waits for at one side (EventLoop's events): room to write what waits for it, and
// bytes for the other side while that has room.
uint32_t relay_interest(const std::string& for_this_side, const std::string& for_the_other);

}  // namespace kumoi::api
