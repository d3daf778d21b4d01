#include "migration/stream/stream_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include <fcntl.h>

namespace kumoi::migration {

namespace {

// Takes what has been transferred off the front.
std::span<iovec> drop_front(std::span<iovec> vectors, size_t bytes) {
    while (!vectors.empty() && bytes >= vectors.front().iov_len) {
        bytes -= vectors.front().iov_len;
        vectors = vectors.subspan(1);
    }
    if (bytes > 0 && !vectors.empty()) {
        vectors.front().iov_base = static_cast<std::byte*>(vectors.front().iov_base) + bytes;
        vectors.front().iov_len -= bytes;
    }
    return vectors;
}

}  // namespace

Result<std::unique_ptr<StreamSocket>> StreamSocket::adopt(UniqueFd fd) {
    int type = 0;
    socklen_t length = sizeof type;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_STREAM) {
        return Error::invalid("a connection of a migration must be a stream socket");
    }
    const int flags = fcntl(fd.get(), F_GETFL);
    if (flags < 0 || fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
        return Error::from_errno(errno, "preparing a connection of a migration");
    }
    return std::unique_ptr<StreamSocket>(new StreamSocket(std::move(fd)));
}

Error StreamSocket::gone(std::string_view what, int error) const {
    if (stopped()) {
        return Error::make(ErrorCode::Cancelled, "{} was stopped", what);
    }
    if (error == 0) {
        return Error::unavailable("the other side closed the connection");
    }
    return Error::unavailable("{} failed: {}", what, std::strerror(error));
}

Result<void> StreamSocket::send(std::span<iovec> vectors) {
    vectors = drop_front(vectors, 0);
    while (!vectors.empty()) {
        msghdr message{};
        message.msg_iov = vectors.data();
        message.msg_iovlen = std::min<size_t>(vectors.size(), IOV_MAX);
        const ssize_t sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 || stopped()) {
            return gone("sending to the other side", sent < 0 ? errno : 0);
        }
        vectors = drop_front(vectors, static_cast<size_t>(sent));
    }
    return {};
}

Result<void> StreamSocket::send(std::span<const std::byte> bytes) {
    iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
    return send(std::span(&vector, 1));
}

Result<void> StreamSocket::receive(std::span<iovec> vectors) {
    vectors = drop_front(vectors, 0);
    while (!vectors.empty()) {
        msghdr message{};
        message.msg_iov = vectors.data();
        message.msg_iovlen = std::min<size_t>(vectors.size(), IOV_MAX);
        const ssize_t got = recvmsg(fd_.get(), &message, MSG_WAITALL);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0 || stopped()) {
            return gone("receiving from the other side", got < 0 ? errno : 0);
        }
        vectors = drop_front(vectors, static_cast<size_t>(got));
    }
    return {};
}

Result<void> StreamSocket::receive(std::span<std::byte> bytes) {
    iovec vector{bytes.data(), bytes.size()};
    return receive(std::span(&vector, 1));
}

Result<bool> StreamSocket::wait_readable(int timeout_ms) {
    pollfd poll_fd{fd_.get(), POLLIN, 0};
    const int ready = poll(&poll_fd, 1, timeout_ms);
    if (ready < 0 && errno != EINTR) {
        return Error::from_errno(errno, "waiting for the other side of a migration");
    }
    return ready > 0;
}

bool StreamSocket::writable() const {
    pollfd poll_fd{fd_.get(), POLLOUT, 0};
    return poll(&poll_fd, 1, 0) > 0;
}

// shutdown() wakes a thread that waits in sendmsg() or recvmsg(); the descriptor stays valid.
void StreamSocket::stop() {
    stopped_.store(true, std::memory_order_release);
    shutdown(fd_.get(), SHUT_RDWR);
}

}  // namespace kumoi::migration
