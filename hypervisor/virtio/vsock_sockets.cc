#include "hypervisor/virtio/vsock_sockets.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace kumoi::hypervisor {

namespace {

constexpr size_t kPortDigitsMax = 11;  // "_4294967295"

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof(address.sun_path)) {
        return Error::invalid("vsock socket path \"{}\" must have 1 to {} characters", path,
                              sizeof(address.sun_path) - 1 - kPortDigitsMax);
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    return address;
}

Result<UniqueFd> make_socket() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.is_open()) {
        return Error::from_errno(errno, "a vsock socket");
    }
    return fd;
}

}  // namespace

Result<std::unique_ptr<VsockSockets>> VsockUnixSockets::open(FileSource& files,
                                                             const std::string& path) {
    TRY(address_of(path + std::string(kPortDigitsMax, '0')));  // every port must be nameable
    std::unique_ptr<VsockUnixSockets> sockets(new VsockUnixSockets(files, path));
    sockets->listener_ = TRY(files.listen(path));
    return Result<std::unique_ptr<VsockSockets>>(std::move(sockets));
}

VsockUnixSockets::~VsockUnixSockets() {
    if (listener_.is_open()) {
        files_.remove_socket(path_);
    }
}

UniqueFd VsockUnixSockets::accept() {
    return UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

// A full backlog is a refusal: waiting would let one listener hold up every connection.
Result<UniqueFd> VsockUnixSockets::connect(uint32_t port) {
    const std::string path = fmt::format("{}_{}", path_, port);
    const sockaddr_un address = TRY(address_of(path));
    UniqueFd fd = TRY(make_socket());
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return Error::from_errno(errno, fmt::format("connecting to {}", path));
    }
    return fd;
}

}  // namespace kumoi::hypervisor
