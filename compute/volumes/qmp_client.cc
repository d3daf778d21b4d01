#include "compute/volumes/qmp_client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"

namespace kumoi::compute {
namespace {

constexpr size_t kMessageMax = 4u << 20;
constexpr int kGarbledMax = 4;

const SystemClock& system_clock() {
    static const SystemClock clock;  // no state
    return clock;
}

Result<void> wait_for(int fd, short events, int64_t deadline_ns) {
    for (;;) {
        const int64_t left_ns = deadline_ns - system_clock().monotonic_ns();
        if (left_ns <= 0) {
            return Error::timeout("qemu-storage-daemon does not answer");
        }
        pollfd one{fd, events, 0};
        const auto left_ms =
            static_cast<int>(std::min<int64_t>(left_ns / kNanosPerMilli + 1, 60'000));
        const int ready = ::poll(&one, 1, left_ms);
        if (ready > 0) {
            return {};
        }
        if (ready < 0 && errno != EINTR) {
            return Error::from_errno(errno, "waiting for qemu-storage-daemon");
        }
    }
}

// A daemon that starts reads its monitor in two threads for a moment, a byte at a time, and may
// take two of them in the wrong order (seen with 7.2: "eexcute"). What it could not read it has not
// done: the same is asked again.
bool was_garbled(std::string_view reason) {
    return reason.starts_with("QMP input ") || reason.starts_with("JSON parse error") ||
           reason.starts_with("Invalid JSON syntax");
}

}  // namespace

Result<UniqueFd> connect_unix(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return Error::invalid("{} is too long for a socket: {} bytes, {} are possible", path,
                              path.size(), sizeof address.sun_path - 1);
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.is_open()) {
        return Error::from_errno(errno, "making a socket");
    }
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        if (errno == ECONNREFUSED) {
            return Error::unavailable("nobody answers on {}", path);
        }
        return Error::from_errno(errno, "connecting to " + path);
    }
    return fd;
}

Result<QmpClient> QmpClient::connect(const std::string& path, int64_t timeout_ms) {
    QmpClient client(TRY(connect_unix(path)));
    if (::fcntl(client.fd_.get(), F_SETFL, O_NONBLOCK) != 0) {
        return Error::from_errno(errno, "a socket");
    }
    const int64_t deadline = system_clock().monotonic_ns() + timeout_ms * kNanosPerMilli;
    const Json greeting = TRY(client.receive(deadline));
    if (greeting.find("QMP") == nullptr) {
        return Error::corrupt("{} does not speak QMP", path);
    }
    TRY(client.call("qmp_capabilities", Json::object(), timeout_ms));
    return client;
}

Result<Json> QmpClient::call(std::string_view command, Json arguments, int64_t timeout_ms) {
    const int64_t deadline = system_clock().monotonic_ns() + timeout_ms * kNanosPerMilli;
    const Json request =
        Json::object({{"execute", std::string(command)}, {"arguments", std::move(arguments)}});
    std::string refused;
    for (int tries = 0; tries < kGarbledMax; ++tries) {
        TRY_CONTEXT(send(request.dump() + "\n", deadline), "{}", command);
        const Json answer = TRY_CONTEXT(receive(deadline), "{}", command);
        if (const Json* value = answer.find("return")) {
            return *value;
        }
        const Json* error = answer.find("error");
        refused = error == nullptr ? "qemu-storage-daemon answered without a result"
                                   : error->string_or("desc", "no reason given");
        if (!was_garbled(refused)) {
            break;
        }
    }
    return Error::io("{}", refused);
}

Result<void> QmpClient::send(const std::string& line, int64_t deadline_ns) {
    std::string_view left = line;
    while (!left.empty()) {
        const ssize_t sent = ::send(fd_.get(), left.data(), left.size(), MSG_NOSIGNAL);
        if (sent > 0) {
            left.remove_prefix(static_cast<size_t>(sent));
        } else if (errno == EAGAIN) {
            TRY(wait_for(fd_.get(), POLLOUT, deadline_ns));
        } else if (errno != EINTR) {
            return Error::from_errno(errno, "speaking to qemu-storage-daemon");
        }
    }
    return {};
}

Result<Json> QmpClient::receive(int64_t deadline_ns) {
    for (;;) {
        if (const size_t end = received_.find('\n'); end != std::string::npos) {
            const std::string line = received_.substr(0, end);
            received_.erase(0, end + 1);
            Json message = TRY_CONTEXT(Json::parse(line), "qemu-storage-daemon's answer");
            if (message.is_object() && message.find("event") == nullptr) {
                return message;
            }
            continue;
        }
        if (received_.size() > kMessageMax) {
            return Error::too_large("qemu-storage-daemon's answer has no end");
        }
        TRY(wait_for(fd_.get(), POLLIN, deadline_ns));
        std::array<char, 16384> buffer{};
        const ssize_t size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
        if (size == 0) {
            return Error::unavailable("qemu-storage-daemon has ended");
        }
        if (size > 0) {
            received_.append(buffer.data(), static_cast<size_t>(size));
        } else if (errno != EAGAIN && errno != EINTR) {
            return Error::from_errno(errno, "listening to qemu-storage-daemon");
        }
    }
}

}  // namespace kumoi::compute
