#include "api/console/socket_io.h"

#include <cerrno>
#include <cstring>

#include <sys/socket.h>
#include <unistd.h>

#include "base/event_loop.h"

namespace kumoi::api {
namespace {

constexpr size_t kReadSize = 32u << 10;

}  // namespace

Result<void> send_some(int fd, std::string& waiting, std::string_view to) {
    while (!waiting.empty()) {
        const ssize_t size = ::send(fd, waiting.data(), waiting.size(), MSG_NOSIGNAL);
        if (size < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno == EAGAIN) {
                return {};
            }
            return Error::from_errno(errno, fmt::format("writing to {}", to));
        }
        waiting.erase(0, static_cast<size_t>(size));
    }
    return {};
}

Result<std::optional<std::string>> receive_some(int fd, std::string_view from) {
    std::string bytes(kReadSize, '\0');
    const ssize_t size = ::recv(fd, bytes.data(), bytes.size(), 0);
    if (size < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return std::optional<std::string>();
        }
        return Error::from_errno(errno, fmt::format("reading from {}", from));
    }
    bytes.resize(static_cast<size_t>(size));
    return std::optional(std::move(bytes));
}

uint32_t relay_interest(const std::string& for_this_side, const std::string& for_the_other) {
    return (for_this_side.empty() ? 0 : EventLoop::kWritable) |
           (for_the_other.size() < kRelayWaitingMax ? EventLoop::kReadable : 0);
}

}  // namespace kumoi::api
