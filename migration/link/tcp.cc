#include "migration/link/tcp.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

namespace kumoi::link {
namespace {

constexpr int kBacklog = 64;

union SocketAddress {
    sockaddr any;
    sockaddr_in ip4;
    sockaddr_in6 ip6;
};

struct FreeAddresses {
    void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

Result<socklen_t> parse_address(const std::string& text, uint16_t port, SocketAddress& address) {
    address = {};
    if (::inet_pton(AF_INET, text.c_str(), &address.ip4.sin_addr) == 1) {
        address.ip4.sin_family = AF_INET;
        address.ip4.sin_port = htons(port);
        return socklen_t{sizeof(address.ip4)};
    }
    if (::inet_pton(AF_INET6, text.c_str(), &address.ip6.sin6_addr) == 1) {
        address.ip6.sin6_family = AF_INET6;
        address.ip6.sin6_port = htons(port);
        return socklen_t{sizeof(address.ip6)};
    }
    return Error::invalid("'{}' is no IP address to listen on", text)
        .with_hint("Set my_ip to an address of this host that the other hosts reach.");
}

// Conflict: the port is taken.
Result<UniqueFd> listen_on(const std::string& text, uint16_t port) {
    SocketAddress address{};
    const socklen_t length = TRY(parse_address(text, port, address));
    UniqueFd socket(::socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int yes = 1;
    if (!socket.is_open() ||
        ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0) {
        return Error::from_errno(errno, "making a socket for other hosts");
    }
    if (::bind(socket.get(), &address.any, length) != 0 || ::listen(socket.get(), kBacklog) != 0) {
        if (errno == EADDRINUSE) {
            return Error::conflict("port {} of {} is taken", port, text);
        }
        return Error::from_errno(errno, fmt::format("listening on {} port {}", text, port));
    }
    return socket;
}

Error unreachable(int why, const std::string& where) {
    Error error = Error::from_errno(why, "connecting to " + where);
    error.code = ErrorCode::Unavailable;
    return error;
}

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
    return failure == 0 ? Result<void>() : Result<void>(unreachable(failure, where));
}

void set_option(int socket, int level, int name, int value) {
    (void)::setsockopt(socket, level, name, &value, sizeof(value));
}

}  // namespace

Result<UniqueFd> listen_tcp(const ListenRange& range) {
    if (range.preferred != 0) {
        if (auto socket = listen_on(range.address, range.preferred); socket.ok()) {
            return socket;
        }
    }
    for (uint32_t port = range.first; port <= range.last; ++port) {
        auto socket = listen_on(range.address, static_cast<uint16_t>(port));
        if (socket.ok() || socket.error().code != ErrorCode::Conflict) {
            return socket;
        }
    }
    return Error::exhausted("every port from {} to {} of {} is taken", range.first, range.last,
                            range.address)
        .with_hint("Give [kumoi] migration_ports a larger range.");
}

Result<uint16_t> local_port(int socket) {
    SocketAddress address{};
    socklen_t length = sizeof(address);
    if (::getsockname(socket, &address.any, &length) != 0) {
        return Error::from_errno(errno, "reading the port of a socket");
    }
    return ntohs(address.any.sa_family == AF_INET ? address.ip4.sin_port : address.ip6.sin6_port);
}

std::string peer_address(int socket) {
    SocketAddress address{};
    socklen_t length = sizeof(address);
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (::getpeername(socket, &address.any, &length) != 0) {
        return "";
    }
    if (address.any.sa_family == AF_INET) {
        ::inet_ntop(AF_INET, &address.ip4.sin_addr, text.data(), text.size());
    } else if (address.any.sa_family == AF_INET6) {
        ::inet_ntop(AF_INET6, &address.ip6.sin6_addr, text.data(), text.size());
    }
    return text.data();
}

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
    set_option(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    if (::connect(socket.get(), list->ai_addr, list->ai_addrlen) != 0) {
        if (errno != EINPROGRESS) {
            return unreachable(errno, where);
        }
        TRY(finish_connect(socket.get(), timeout_ms, where));
    }
    return socket;
}

void tune_stream(int socket, int64_t silence_ms) {
    constexpr int kProbes = 3;
    set_option(socket, SOL_SOCKET, SO_SNDBUF, kStreamBufferSize);
    set_option(socket, SOL_SOCKET, SO_RCVBUF, kStreamBufferSize);
    set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(silence_ms));
    const auto interval_s = static_cast<int>(std::max<int64_t>(1, silence_ms / 1000 / kProbes));
    set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, interval_s);
    set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, interval_s);
    set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
}

}  // namespace kumoi::link
