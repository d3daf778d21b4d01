// connect_tcp(): a connection with a time limit.
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>

#include "migration/transfer/folder_client.h"

namespace kumoi::transfer {
namespace {

struct FreeAddresses {
    void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

Result<void> finish_connect(int socket, int64_t timeout_ms, const std::string& where) {
    pollfd entry{socket, POLLOUT, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(timeout_ms));
    if (ready == 0) {
        return Error::timeout("{} does not answer", where);
    }
    int failure = 0;
    socklen_t length = sizeof(failure);
    if (ready < 0 || ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &failure, &length) != 0) {
        failure = errno;
    }
    if (failure != 0) {
        Error error = Error::from_errno(failure, "connecting to " + where);
        error.code = ErrorCode::Unavailable;
        return error;
    }
    return {};
}

}  // namespace

Result<UniqueFd> connect_tcp(const std::string& address, uint16_t port, int64_t timeout_ms) {
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
        return Error::invalid("'{}' is no IP address", address);
    }
    const std::unique_ptr<addrinfo, FreeAddresses> list(found);
    const std::string where = fmt::format("{} port {}", address, port);
    UniqueFd socket(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket.is_open()) {
        return Error::from_errno(errno, "making a socket");
    }
    const int yes = 1;
    (void)::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    if (::connect(socket.get(), list->ai_addr, list->ai_addrlen) != 0) {
        if (errno != EINPROGRESS) {
            Error error = Error::from_errno(errno, "connecting to " + where);
            error.code = ErrorCode::Unavailable;
            return error;
        }
        TRY(finish_connect(socket.get(), timeout_ms, where));
    }
    return socket;
}

}  // namespace kumoi::transfer
