#include "api/http/listen_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <csignal>
#include <cstring>

namespace kumoi::api {
namespace {

struct SocketAddress {
    sockaddr_storage storage{};
    socklen_t size = 0;
};

Result<SocketAddress> parse_address(const std::string& address, uint16_t port) {
    SocketAddress parsed;
    sockaddr_in v4{};
    sockaddr_in6 v6{};
    if (inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        parsed.size = sizeof(v4);
        std::memcpy(&parsed.storage, &v4, sizeof(v4));
        return parsed;
    }
    if (inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(port);
        parsed.size = sizeof(v6);
        std::memcpy(&parsed.storage, &v6, sizeof(v6));
        return parsed;
    }
    return Error::invalid("'{}' is not an IPv4 or IPv6 address", address)
        .with_hint("use 127.0.0.1, 0.0.0.0, ::1 or ::");
}

std::string text_of(const sockaddr_storage& storage) {
    char text[INET6_ADDRSTRLEN] = "";
    if (storage.ss_family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, &storage, sizeof(v4));
        inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
        return fmt::format("{}:{}", text, ntohs(v4.sin_port));
    }
    if (storage.ss_family == AF_INET6) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, &storage, sizeof(v6));
        inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
        return fmt::format("[{}]:{}", text, ntohs(v6.sin6_port));
    }
    return "unknown";
}

sockaddr_storage address_of(int fd, decltype(getsockname)* ask) {
    sockaddr_storage storage{};
    socklen_t size = sizeof(storage);
    if (ask(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) {
        storage.ss_family = AF_UNSPEC;  // the peer has already gone
    }
    return storage;
}

}  // namespace

Result<UniqueFd> listen_on(const std::string& address, uint16_t port, int backlog) {
    const SocketAddress parsed = TRY(parse_address(address, port));
    UniqueFd fd(::socket(parsed.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.is_open()) {
        return Error::from_errno(errno, "Creating a TCP socket");
    }
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (parsed.storage.ss_family == AF_INET6) {
        ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&parsed.storage), parsed.size) != 0) {
        return Error::from_errno(errno, fmt::format("Binding {} port {}", address, port))
            .with_hint("see who has the port with: ss -ltnp");
    }
    if (::listen(fd.get(), backlog) != 0) {
        return Error::from_errno(errno, fmt::format("Listening on {} port {}", address, port));
    }
    return fd;
}

Result<UniqueFd> accept_on(int listener) {
    while (true) {
        UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (fd.is_open()) {
            const int on = 1;
            ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
            return fd;
        }
        switch (errno) {
            case EINTR:
            case ECONNABORTED:
            case EPROTO: continue;
            case EAGAIN: return UniqueFd();
            case EMFILE:
            case ENFILE:
            case ENOBUFS:
            case ENOMEM:
                return Error::exhausted("No descriptor or memory for another connection: {}",
                                        std::strerror(errno));
            default: return Error::from_errno(errno, "Accepting a connection");
        }
    }
}

uint16_t local_port(int fd) {
    const sockaddr_storage storage = address_of(fd, ::getsockname);
    if (storage.ss_family == AF_INET6) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, &storage, sizeof(v6));
        return ntohs(v6.sin6_port);
    }
    sockaddr_in v4{};
    std::memcpy(&v4, &storage, sizeof(v4));
    return ntohs(v4.sin_port);
}

std::string local_address_text(int fd) {
    return text_of(address_of(fd, ::getsockname));
}
std::string peer_address_text(int fd) {
    return text_of(address_of(fd, ::getpeername));
}

void ignore_broken_pipe_signal() {
    struct sigaction current {};
    if (::sigaction(SIGPIPE, nullptr, &current) == 0 && current.sa_handler == SIG_DFL) {
        ::signal(SIGPIPE, SIG_IGN);
    }
}

}  // namespace kumoi::api
