#include "base/unix_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/clock.h"

namespace kumoi {

const sockaddr* UnixAddress::generic() const {
    return reinterpret_cast<const sockaddr*>(&address);
}

Result<UnixAddress> unix_address(const std::string& path) {
    UnixAddress unix_path;
    sockaddr_un& address = unix_path.address;
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) {
        return Error::invalid("the socket path \"{}\" has {} bytes; 1 to {} are possible", path,
                              path.size(), sizeof address.sun_path - 1);
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    return unix_path;
}

Result<UniqueFd> connect_unix(const std::string& path, int flags) {
    const UnixAddress address = TRY(unix_address(path));
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    if (!fd.is_open()) {
        return Error::from_errno(errno, "making a socket");
    }
    if (::connect(fd.get(), address.generic(), sizeof address.address) != 0) {
        if (errno == ECONNREFUSED || errno == EAGAIN) {
            return Error::unavailable("nobody answers on {}: {}", path, std::strerror(errno));
        }
        return Error::from_errno(errno, "connecting to " + path);
    }
    return fd;
}

Result<bool> wait_ready(int fd, short events, int64_t deadline_ns) {
    for (;;) {
        const int64_t left_ns = deadline_ns - SystemClock().monotonic_ns();
        if (left_ns <= 0) {
            return false;
        }
        pollfd one{fd, events, 0};
        const auto left_ms =
            static_cast<int>(std::min<int64_t>(left_ns / kNanosPerMilli + 1, 60'000));
        const int ready = ::poll(&one, 1, left_ms);
        if (ready > 0) {
            return true;
        }
        if (ready < 0 && errno != EINTR) {
            return Error::from_errno(errno, "waiting for a peer");
        }
    }
}

Result<bool> send_all(int fd, std::string_view bytes, int64_t deadline_ns) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent > 0) {
            bytes.remove_prefix(static_cast<size_t>(sent));
        } else if (errno == EAGAIN) {
            if (!TRY(wait_ready(fd, POLLOUT, deadline_ns))) {
                return false;
            }
        } else if (errno != EINTR) {
            return Error::from_errno(errno, "sending to a peer");
        }
    }
    return true;
}

std::vector<UniqueFd> received_descriptors(msghdr& message) {
    std::vector<UniqueFd> descriptors;
    for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr;
         head = CMSG_NXTHDR(&message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const size_t size = head->cmsg_len - CMSG_LEN(0);
        for (size_t at = 0; at + sizeof(int) <= size; at += sizeof(int)) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(head) + at, sizeof fd);
            descriptors.emplace_back(fd);
        }
    }
    return descriptors;
}

}  // namespace kumoi
