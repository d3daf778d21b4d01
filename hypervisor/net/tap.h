// Tap: a NetBackend over a Linux TAP device that somebody else created and configured
// (`ip tuntap add dev NAME mode tap`). Opened by name, non-blocking, with the virtio network header
// in front of every frame (IFF_VNET_HDR, 12 bytes). Threading as NetBackend.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "hypervisor/net/net_backend.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class Tap final : public NetBackend {
public:
    static Result<std::unique_ptr<NetBackend>> open(FileSource& files, const std::string& device);
    // `count` queues of one device, which must have been made with `multi_queue` when there are
    // several. All but the first are out of use at first.
    static Result<std::vector<std::unique_ptr<NetBackend>>> open_queues(FileSource& files,
                                                                        const std::string& device,
                                                                        unsigned count);

    std::string name() const override { return device_; }
    NetOffloads supported() const override { return supported_; }
    Result<void> set_offloads(const NetOffloads& offloads) override;
    Result<void> set_active(bool active) override;
    int poll_fd() const override { return fd_.get(); }
    int vhost_fd() const override { return fd_.get(); }
    int64_t receive(std::span<const iovec> vectors) override;
    int64_t send(std::span<const iovec> vectors) override;

private:
    explicit Tap(std::string device) : device_(std::move(device)) {}
    Result<void> attach(FileSource& files, bool multi_queue);
    void inherit(uint32_t offloads);
    Result<void> set_up();
    void probe_offloads();

    const std::string device_;
    UniqueFd fd_;
    NetOffloads supported_;
    std::optional<bool> active_ = true;  // nothing: an older process has it in use
};

}  // namespace kumoi::hypervisor
