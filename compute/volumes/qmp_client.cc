#include "compute/volumes/qmp_client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/clock.h"
#include "base/unix_socket.h"

namespace kumoi::compute {
namespace {

constexpr size_t kMessageMax = 4u << 20;
constexpr int kGarbledMax = 4;

const SystemClock& system_clock() {
    static const SystemClock clock;  // no state
    return clock;
}

Error silent() {
    return Error::timeout("qemu-storage-daemon does not answer");
}

// A daemon that starts reads its monitor in two threads for a moment, a byte at a time, and may
// take two of them in the wrong order (seen with 7.2: "eexcute"). What it could not read it has not
// done: the same is asked again.
bool was_garbled(std::string_view reason) {
    return reason.starts_with("QMP input ") || reason.starts_with("JSON parse error") ||
           reason.starts_with("Invalid JSON syntax");
}

}  // namespace

Result<QmpClient> QmpClient::connect(const std::string& path, int64_t timeout_ms) {
    QmpClient client(TRY(connect_unix(path)));  // waits for a monitor that is busy
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
    const bool sent = TRY_CONTEXT(send_all(fd_.get(), line, deadline_ns), "qemu-storage-daemon");
    return sent ? Result<void>() : silent();
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
        if (!TRY(wait_ready(fd_.get(), POLLIN, deadline_ns))) {
            return silent();
        }
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
