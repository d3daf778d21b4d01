// The TCP sockets both servers use: listening, accepting, addresses as text. Thread safe, no state.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::api {

// `address` is an IPv4 or IPv6 literal. Non-blocking, close-on-exec.
Result<UniqueFd> listen_on(const std::string& address, uint16_t port, int backlog = 1024);
// Non-blocking, close-on-exec, without Nagle's delay. Not open when nobody waits. Running out of
// descriptors is an error (Exhausted); the connection then stays in the backlog.
Result<UniqueFd> accept_on(int listener);
uint16_t local_port(int fd);
std::string local_address_text(int fd);  // "127.0.0.1:80", "[::1]:80"
std::string peer_address_text(int fd);
void ignore_broken_pipe_signal();  // a client that hangs up must not end the process

}  // namespace kumoi::api
