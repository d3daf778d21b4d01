// VsockSockets: the host's side of virtio-vsock: where connections of the host come in and where
// the guest's go. Unix sockets in a machine, as Firecracker and Cloud Hypervisor name them;
// anything in tests. Descriptors are non-blocking stream sockets. Made and destroyed on the loop's
// thread, used on the I/O thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class VsockSockets {
public:
    virtual ~VsockSockets() = default;
    virtual int listener() const = 0;                     // readable: accept() has something
    virtual UniqueFd accept() = 0;                        // not open: nothing there
    virtual Result<UniqueFd> connect(uint32_t port) = 0;  // the guest connects to the host's port
};

// Listens on PATH, where a client says "CONNECT port\n" first; the host's port p is PATH_p, looked
// up when the guest connects.
class VsockUnixSockets final : public VsockSockets {
public:
    static Result<std::unique_ptr<VsockSockets>> open(FileSource& files, const std::string& path);
    ~VsockUnixSockets() override;

    int listener() const override { return listener_.get(); }
    UniqueFd accept() override;
    Result<UniqueFd> connect(uint32_t port) override;

private:
    VsockUnixSockets(FileSource& files, std::string path) : files_(files), path_(std::move(path)) {}
    FileSource& files_;
    const std::string path_;
    FileSource::PortConnector connect_;
    UniqueFd listener_;
};

}  // namespace kumoi::hypervisor
