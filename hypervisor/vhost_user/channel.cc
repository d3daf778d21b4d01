#include "hypervisor/vhost_user/channel.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/unix_socket.h"

namespace kumoi::hypervisor::vhost_user {

namespace {

struct ControlBuffer {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kFdsMax)> bytes{};
};

Error gone() {
    return Error::unavailable("the vhost-user back end closed the connection");
}

}  // namespace

int64_t MessageChannel::deadline() const {
    return clock_.monotonic_ns() + timeout_ms_ * kNanosPerMilli;
}

Result<void> MessageChannel::wait(short events, int64_t deadline_ns) const {
    while (true) {
        const int64_t left_ns = deadline_ns - clock_.monotonic_ns();
        if (left_ns <= 0) {
            return Error::timeout("the vhost-user back end did not answer within {} ms",
                                  timeout_ms_);
        }
        pollfd polled{socket_.get(), events, 0};
        const int left_ms = static_cast<int>(left_ns / kNanosPerMilli) + 1;
        const int count = ::poll(&polled, 1, left_ms);
        if (count > 0) {
            return {};
        }
        if (count < 0 && errno != EINTR) {
            return Error::from_errno(errno, "waiting for the vhost-user back end");
        }
    }
}

Result<void> MessageChannel::send(uint32_t request, uint32_t flags,
                                  std::span<const std::byte> payload, std::span<const int> fds) {
    KUMOI_ASSERT(fds.size() <= kFdsMax);
    Header header{request, flags | kVersion, static_cast<uint32_t>(payload.size())};
    std::vector<std::byte> bytes(sizeof(header) + payload.size());
    std::memcpy(bytes.data(), &header, sizeof(header));
    if (!payload.empty()) {
        std::memcpy(bytes.data() + sizeof(header), payload.data(), payload.size());
    }
    const int64_t until = deadline();
    for (size_t sent = 0; sent < bytes.size();) {
        iovec vector{bytes.data() + sent, bytes.size() - sent};
        msghdr message{};
        message.msg_iov = &vector;
        message.msg_iovlen = 1;
        ControlBuffer control;
        if (sent == 0 && !fds.empty()) {
            message.msg_control = control.bytes.data();
            message.msg_controllen = CMSG_SPACE(fds.size_bytes());
            cmsghdr* part = CMSG_FIRSTHDR(&message);
            part->cmsg_level = SOL_SOCKET;
            part->cmsg_type = SCM_RIGHTS;
            part->cmsg_len = CMSG_LEN(fds.size_bytes());
            std::memcpy(CMSG_DATA(part), fds.data(), fds.size_bytes());
        }
        const ssize_t count = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count >= 0) {
            sent += static_cast<size_t>(count);
        } else if (errno == EAGAIN) {
            TRY(wait(POLLOUT, until));
        } else if (errno == EPIPE || errno == ECONNRESET) {
            return gone();
        } else if (errno != EINTR) {
            return Error::from_errno(errno, "sending to the vhost-user back end");
        }
    }
    return {};
}

Result<size_t> MessageChannel::read_some(std::span<std::byte> bytes, std::vector<UniqueFd>& fds) {
    iovec vector{bytes.data(), bytes.size()};
    ControlBuffer control;
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    const ssize_t count = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0) {
        return errno == EAGAIN || errno == EINTR
                   ? Result<size_t>(size_t{0})
                   : Result<size_t>(
                         errno == ECONNRESET
                             ? gone()
                             : Error::from_errno(errno, "reading from the vhost-user back end"));
    }
    for (UniqueFd& fd : received_descriptors(message)) {
        fds.push_back(std::move(fd));  // closed whatever happens next
    }
    if ((message.msg_flags & MSG_CTRUNC) != 0 || fds.size() > kFdsMax) {
        return Error::corrupt("the vhost-user back end sent more than {} descriptors", kFdsMax);
    }
    return count == 0 ? Result<size_t>(gone()) : Result<size_t>(static_cast<size_t>(count));
}

Result<void> MessageChannel::read_exactly(std::span<std::byte> bytes, int64_t deadline_ns,
                                          std::vector<UniqueFd>& fds) {
    while (!bytes.empty()) {
        const size_t count = TRY(read_some(bytes, fds));
        bytes = bytes.subspan(count);
        if (count == 0) {
            TRY(wait(POLLIN, deadline_ns));
        }
    }
    return {};
}

Result<Message> MessageChannel::receive() {
    const int64_t until = deadline();
    Message message;
    Header header{};
    TRY(read_exactly(std::as_writable_bytes(std::span(&header, 1)), until, message.fds));
    if ((header.flags & kVersionMask) != kVersion) {
        return Error::corrupt("the vhost-user back end speaks version {}, not {}",
                              header.flags & kVersionMask, kVersion);
    }
    if (header.size > kPayloadMax) {
        return Error::corrupt("a vhost-user message {} has {} bytes, more than {}", header.request,
                              header.size, kPayloadMax);
    }
    message.request = header.request;
    message.flags = header.flags;
    message.payload.resize(header.size);
    TRY(read_exactly(message.payload, until, message.fds));
    return message;
}

}  // namespace kumoi::hypervisor::vhost_user
