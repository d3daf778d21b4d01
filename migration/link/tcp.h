// TCP sockets between hosts: listening on one port of a range, connecting with a time limit, and
// the options that bulk streams want. Blocks; any thread.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::link {

struct ListenRange {
    std::string address = "127.0.0.1";
    uint16_t first = 0;  // 0: any free one
    uint16_t last = 0;
    uint16_t preferred = 0;  // tried before the others, if it is not 0
};

// Non-blocking. Exhausted: every port is taken.
Result<UniqueFd> listen_tcp(const ListenRange& range);
Result<uint16_t> local_port(int socket);
// Of the other end, without its port; empty for a unix socket.
std::string peer_address(int socket);
// A non-blocking connection. InvalidArgument: no IP address.
Result<UniqueFd> connect_tcp(const std::string& address, uint16_t port, int64_t timeout_ms);

constexpr int kStreamBufferSize = 4 << 20;  // what the kernel is asked for; it may give less
// No delay for small messages, big buffers, and a peer that is gone without a word noticed within
// `silence_ms` by the kernel, whether something is on its way to it or not. Does nothing to a unix
// socket but its buffers.
void tune_stream(int socket, int64_t silence_ms);

}  // namespace kumoi::link
