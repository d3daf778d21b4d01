#include "migration/link/descriptor_message.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/unix_socket.h"

namespace kumoi::link {
namespace {

constexpr size_t kControlSize = CMSG_SPACE(kMessageDescriptorsMax * sizeof(int));

}  // namespace

Result<void> send_message(int socket, std::string_view text, std::span<const int> descriptors) {
    if (text.size() > kMessageTextMax || descriptors.size() > kMessageDescriptorsMax) {
        return Error::too_large("a message of {} bytes with {} descriptors", text.size(),
                                descriptors.size());
    }
    alignas(cmsghdr) std::array<char, kControlSize> control{};
    iovec piece{const_cast<char*>(text.data()), text.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
        cmsghdr* head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(descriptors.size_bytes());
        std::memcpy(CMSG_DATA(head), descriptors.data(), descriptors.size_bytes());
    }
    if (::sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
        return Error::from_errno(errno, "passing descriptors to another process");
    }
    return {};
}

Result<DescriptorMessage> receive_message(int socket) {
    DescriptorMessage received;
    received.text.resize(kMessageTextMax);
    alignas(cmsghdr) std::array<char, kControlSize> control{};
    iovec piece{received.text.data(), received.text.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t count = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (count < 0) {
        return Error::from_errno(errno, "receiving descriptors from another process");
    }
    received.descriptors = received_descriptors(message);
    received.text.resize(static_cast<size_t>(count));
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        return Error::too_large("a message with descriptors was cut off");
    }
    return received;
}

}  // namespace kumoi::link
