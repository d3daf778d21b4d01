// DirectFiles: the host's own open, TAP and socket calls.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/unix_socket.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

namespace {

constexpr int kBacklog = 64;

Result<UnixAddress> socket_address(const std::string& path) {
    auto address = unix_address(path);
    if (!address.ok()) {
        return Error(address.error()).with_hint("use a shorter directory name");
    }
    return address;
}

Result<UniqueFd> stream_socket(int family, int flags) {
    UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    if (!fd.is_open()) {
        return Error::from_errno(errno, "making a socket");
    }
    return fd;
}

// A socket file survives its process. Connecting tells a live one from a left-over.
Result<void> remove_stale_socket(const std::string& path, const UnixAddress& address) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        return {};
    }
    if (!S_ISSOCK(status.st_mode)) {
        return Error::conflict("{} exists and is not a socket", path);
    }
    const UniqueFd probe = TRY(stream_socket(AF_UNIX, SOCK_NONBLOCK));
    if (::connect(probe.get(), address.generic(), sizeof address.address) == 0 || errno == EAGAIN) {
        return Error::conflict("another process listens on {}", path)
            .with_hint("is this guest running already?");
    }
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        return Error::from_errno(errno, fmt::format("removing the old socket {}", path));
    }
    return {};
}

// A full backlog is a refusal: one peer that does not accept must not hold up the others.
Result<UniqueFd> connect_now(const std::string& path) {
    const UnixAddress address = TRY(socket_address(path));
    UniqueFd fd = TRY(stream_socket(AF_UNIX, SOCK_NONBLOCK));
    if (::connect(fd.get(), address.generic(), sizeof address.address) != 0) {
        return Error::unavailable("nobody answers on {}: {}", path, std::strerror(errno));
    }
    return fd;
}

}  // namespace

Result<UniqueFd> DirectFiles::open(const std::string& path, int flags, unsigned mode) {
    return open_file(path, flags, mode);
}

Result<UniqueFd> DirectFiles::open_tap(const std::string& interface, bool multi_queue) {
    if (interface.empty() || interface.size() >= IFNAMSIZ) {
        return Error::invalid("TAP name \"{}\" must have 1 to {} characters", interface,
                              IFNAMSIZ - 1);
    }
    // TUNSETIFF would create a missing device that vanishes with us: say what is wrong instead.
    if (if_nametoindex(interface.c_str()) == 0) {
        return Error::not_found("TAP device {} does not exist", interface)
            .with_hint(fmt::format("create it with: ip tuntap add dev {} mode tap", interface));
    }
    UniqueFd fd = TRY(open_file("/dev/net/tun", O_RDWR | O_NONBLOCK));
    ifreq request{};
    std::memcpy(request.ifr_name, interface.data(), interface.size());
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (multi_queue) {
        request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_MULTI_QUEUE);
    }
    if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) {
        return Error::from_errno(errno, fmt::format("attaching to TAP device {}", interface))
            .with_hint("it must be a TAP device, used by no other process, and ours to open");
    }
    return fd;
}

Result<UniqueFd> DirectFiles::listen(const std::string& path, unsigned mode) {
    const UnixAddress address = TRY(socket_address(path));
    TRY(remove_stale_socket(path, address));
    UniqueFd listener = TRY(stream_socket(AF_UNIX, SOCK_NONBLOCK));
    if (::bind(listener.get(), address.generic(), sizeof address.address) != 0) {
        return Error::from_errno(errno, fmt::format("binding the socket {}", path));
    }
    if (::chmod(path.c_str(), mode) != 0 || ::listen(listener.get(), kBacklog) != 0) {
        const int error = errno;
        ::unlink(path.c_str());
        return Error::from_errno(error, fmt::format("listening on the socket {}", path));
    }
    return listener;
}

Result<UniqueFd> DirectFiles::listen_tcp(const std::string& host, uint16_t port) {
    sockaddr_in v4{};
    sockaddr_in6 v6{};
    const bool is_v4 = ::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1;
    if (!is_v4 && ::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) != 1) {
        return Error::invalid("\"{}\" is not a numeric address to listen on", host)
            .with_hint("use 127.0.0.1 or ::1");
    }
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    UniqueFd listener = TRY(stream_socket(is_v4 ? AF_INET : AF_INET6, SOCK_NONBLOCK));
    const int one = 1;
    ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    const auto* address =
        is_v4 ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6);
    const socklen_t size = is_v4 ? sizeof v4 : sizeof v6;
    if (::bind(listener.get(), address, size) != 0 || ::listen(listener.get(), kBacklog) != 0) {
        return Error::from_errno(errno, fmt::format("listening on {}", tcp_name(host, port)));
    }
    return listener;
}

Result<UniqueFd> DirectFiles::connect(const std::string& path) {
    const UnixAddress address = TRY(socket_address(path));
    UniqueFd fd = TRY(stream_socket(AF_UNIX, 0));
    while (::connect(fd.get(), address.generic(), sizeof address.address) != 0) {
        if (errno == EINTR) {
            continue;
        }
        if (errno == ECONNREFUSED) {
            return Error::unavailable("nobody answers on {}: {}", path, std::strerror(errno));
        }
        return Error::from_errno(errno, fmt::format("connecting to {}", path));
    }
    return fd;
}

Result<FileSource::Connector> DirectFiles::connector(const std::string& path) {
    TRY(socket_address(path));
    return Connector([path] { return connect_now(path); });
}

Result<FileSource::PortConnector> DirectFiles::port_connector(const std::string& path) {
    TRY(socket_address(fmt::format("{}_{}", path, UINT32_MAX)));  // every port must be nameable
    return PortConnector(
        [path](uint32_t port) { return connect_now(fmt::format("{}_{}", path, port)); });
}

void DirectFiles::remove_socket(const std::string& path) {
    ::unlink(path.c_str());
}

FileSource& direct_files() {
    static DirectFiles files;
    return files;
}

std::string tcp_name(const std::string& host, uint16_t port) {
    return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                               : fmt::format("[{}]:{}", host, port);
}

}  // namespace kumoi::hypervisor
