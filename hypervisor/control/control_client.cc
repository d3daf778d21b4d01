#include "hypervisor/control/control_client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/unix_socket.h"

namespace kumoi::hypervisor {

namespace {

constexpr size_t kReadSize = 16u << 10;

// Deadlines guard against a hung process, so they follow the real clock even in tests.
int64_t now_ns() {
    return SystemClock().monotonic_ns();
}

// True when ready, false at the deadline.
Result<bool> wait_for(int fd, short events, int64_t deadline_ns) {
    for (;;) {
        const int64_t left_ns = std::max<int64_t>(deadline_ns - now_ns(), 0);
        pollfd item{fd, events, 0};
        const auto left_ms = static_cast<int>(
            std::min<int64_t>((left_ns + kNanosPerMilli - 1) / kNanosPerMilli, INT32_MAX));
        const int count = poll(&item, 1, left_ms);
        if (count > 0) {
            return true;
        }
        if (count == 0) {
            return false;
        }
        if (errno != EINTR) {
            return Error::from_errno(errno, "waiting for the control socket");
        }
    }
}

}  // namespace

Result<ControlClient> ControlClient::connect(const std::string& path, int64_t timeout_ms) {
    const UnixAddress address = TRY(unix_address(path));
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.is_open()) {
        return Error::from_errno(errno, "making a unix socket");
    }
    const int64_t deadline = now_ns() + timeout_ms * kNanosPerMilli;
    while (::connect(fd.get(), address.generic(), sizeof address.address) != 0) {
        if (errno == EAGAIN && now_ns() < deadline) {  // its queue of connections is full
            constexpr int kRetryMs = 5;
            poll(nullptr, 0, kRetryMs);
            continue;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno == ECONNREFUSED || errno == EAGAIN) {
            return Error::unavailable("nobody answers on {}: {}", path, std::strerror(errno));
        }
        return Error::from_errno(errno, fmt::format("connecting to {}", path));
    }
    return ControlClient(std::move(fd));
}

Error ControlClient::gone(std::string_view why) {
    fd_.reset();
    return Error::unavailable("the connection to the virtual machine's process has ended: {}", why);
}

Result<Json> ControlClient::call(std::string_view method, const Json& params, int64_t timeout_ms,
                                 std::span<const NamedDescriptor> descriptors) {
    if (descriptors.size() > kControlFdsMax) {
        return Error::invalid("{} descriptors were to go with \"{}\"; at most {} can",
                              descriptors.size(), method, kControlFdsMax);
    }
    std::vector<std::string> names;
    for (const NamedDescriptor& descriptor : descriptors) {
        names.push_back(descriptor.name);
    }
    const int64_t deadline = now_ns() + timeout_ms * kNanosPerMilli;
    const int64_t id = next_id_++;
    TRY(send_all(control_request_line(id, method, params, names), descriptors, deadline));
    for (;;) {
        const std::optional<Json> message = TRY(receive(deadline));
        if (!message) {
            return Error::timeout("the virtual machine's process did not answer \"{}\" in {} ms",
                                  method, timeout_ms);
        }
        if (message->contains("event")) {
            keep_event(*message);
            continue;
        }
        if (message->integer_or("id", -1) != id) {
            continue;  // the late answer to a call that timed out
        }
        if (const Json* error = message->find("error")) {
            return control_error(*error);
        }
        const Json* result = message->find("result");
        return result == nullptr ? Json::object() : *result;
    }
}

Result<std::optional<ControlEvent>> ControlClient::wait_event(int64_t timeout_ms) {
    const int64_t deadline = now_ns() + timeout_ms * kNanosPerMilli;
    for (;;) {
        if (!events_.empty()) {
            ControlEvent event = std::move(events_.front());
            events_.pop_front();
            return std::optional<ControlEvent>(std::move(event));
        }
        const std::optional<Json> message = TRY(receive(deadline));
        if (!message) {
            return std::optional<ControlEvent>();
        }
        keep_event(*message);
    }
}

void ControlClient::keep_event(const Json& message) {
    const Json* name = message.find("event");
    if (name == nullptr || !name->is_string()) {
        return;
    }
    const Json* data = message.find("data");
    if (events_.size() >= kEventsMax) {
        events_.pop_front();
    }
    events_.push_back({name->as_string(), data == nullptr ? Json() : *data});
}

Result<void> ControlClient::send_all(std::string_view bytes,
                                     std::span<const NamedDescriptor> descriptors,
                                     int64_t deadline_ns) {
    if (!fd_.is_open()) {
        return gone("it was closed before");
    }
    while (!bytes.empty()) {
        const ssize_t count = send_some(bytes, descriptors);
        if (count > 0) {
            descriptors = {};  // they went with the first bytes
            bytes.remove_prefix(static_cast<size_t>(count));
        } else if (errno == EAGAIN) {
            if (!TRY(wait_for(fd_.get(), POLLOUT, deadline_ns))) {
                return gone("it does not read our request");  // half a line was sent
            }
        } else if (errno != EINTR) {
            return gone(std::strerror(errno));
        }
    }
    return {};
}

ssize_t ControlClient::send_some(std::string_view bytes,
                                 std::span<const NamedDescriptor> descriptors) {
    iovec vector{const_cast<char*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kControlFdsMax)> control{};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors.size());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * descriptors.size());
        for (size_t i = 0; i < descriptors.size(); ++i) {
            std::memcpy(CMSG_DATA(header) + i * sizeof(int), &descriptors[i].fd, sizeof(int));
        }
    }
    return sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
}

Result<std::optional<Json>> ControlClient::receive(int64_t deadline_ns) {
    for (;;) {
        if (const auto line = lines_.next_line()) {
            auto json = Json::parse(*line, {kControlLineMax, 64});
            if (!json) {
                return gone("it sent something that is not JSON");
            }
            return std::optional<Json>(std::move(json).value());
        }
        if (!fd_.is_open()) {
            return gone("it was closed before");
        }
        if (!TRY(wait_for(fd_.get(), POLLIN, deadline_ns))) {
            return std::optional<Json>();
        }
        std::array<char, kReadSize> buffer;
        const ssize_t count = recv(fd_.get(), buffer.data(), buffer.size(), 0);
        if (count == 0) {
            return gone("the process has closed it");
        }
        if (count < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                continue;
            }
            return gone(std::strerror(errno));
        }
        if (!lines_.append(std::string_view(buffer.data(), static_cast<size_t>(count)))) {
            return gone("it sent an endless line");
        }
    }
}

}  // namespace kumoi::hypervisor
