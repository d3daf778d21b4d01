// Unix stream sockets of other processes, and talking over a non-blocking one with a deadline. Any
// thread. Deadlines are of the real monotonic clock, for they guard against a peer that hangs.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi {

struct UnixAddress {
    sockaddr_un address{};
    const sockaddr* generic() const;
};

// InvalidArgument: the path is empty or has more bytes than an address can hold.
Result<UnixAddress> unix_address(const std::string& path);

// A connected stream socket, close-on-exec. `flags`: SOCK_NONBLOCK. Unavailable: nobody takes
// connections there now. NotFound: there is no such socket.
Result<UniqueFd> connect_unix(const std::string& path, int flags = 0);

// True when ready for poll(2)'s `events`; false once the deadline has passed.
Result<bool> wait_ready(int fd, short events, int64_t deadline_ns);

// All of it over a non-blocking socket; false at the deadline. An error: the peer has gone.
Result<bool> send_all(int fd, std::string_view bytes, int64_t deadline_ns);

// The descriptors that came with a message of recvmsg(2), in their order, whatever else is to be
// said of it (MSG_CTRUNC: some were lost). Call once a message: they are owned by the result.
std::vector<UniqueFd> received_descriptors(msghdr& message);

}  // namespace kumoi
