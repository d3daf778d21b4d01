#include "hypervisor/virtio/vsock_sockets.h"

#include <sys/socket.h>

namespace kumoi::hypervisor {

Result<std::unique_ptr<VsockSockets>> VsockUnixSockets::open(FileSource& files,
                                                             const std::string& path) {
    std::unique_ptr<VsockUnixSockets> sockets(new VsockUnixSockets(files, path));
    sockets->connect_ = TRY(files.port_connector(path));
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

Result<UniqueFd> VsockUnixSockets::connect(uint32_t port) {
    return connect_(port);
}

}  // namespace kumoi::hypervisor
