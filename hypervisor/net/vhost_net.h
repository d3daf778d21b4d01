// VhostNet: one pair of a card's queues served by the kernel (/dev/vhost-net) instead of by us.
//
// The kernel reads the rings in guest memory itself, is woken by the queue's doorbell and rings
// `call` when the driver wants an interrupt. stop() takes the rings back: nothing is in flight
// then, and where the kernel stood in them is known, so pause, snapshot and reset are as without
// it. Writes of a kernel thread to guest memory meet write protection (live snapshots) and missing
// pages (restore on demand) as ours do. Every ioctl goes through a VhostKernel, which tests
// replace.
// set_memory() from any thread, all else on the control thread before start, then the I/O thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

class VhostKernel {
public:
    virtual ~VhostKernel() = default;
    // 0, or a negative errno.
    virtual int call(int fd, unsigned long request, void* argument) = 0;
};
VhostKernel& system_vhost_kernel();

class VhostNet {
public:
    static constexpr char kDevice[] = "/dev/vhost-net";
    // Of virtio's feature bits, those that change what the kernel does with a ring.
    static constexpr uint64_t kRingFeatures = 1ull << 15 |  // VIRTIO_NET_F_MRG_RXBUF
                                              1ull << 28 |  // indirect descriptors
                                              1ull << 29 |  // event index
                                              1ull << 32;   // VERSION_1

    struct Ring {
        uint16_t size = 0;
        uint16_t base = 0;  // next entry of the available ring
        std::byte* descriptors = nullptr;
        std::byte* available = nullptr;
        std::byte* used = nullptr;
        int kick_fd = -1;
        int call_fd = -1;
    };
    struct Positions {
        uint16_t receive = 0;
        uint16_t transmit = 0;
    };

    // Makes this process the owner. Unsupported: a kernel without what a modern card needs.
    static Result<std::unique_ptr<VhostNet>> create(UniqueFd device, VhostKernel& kernel);
    VhostNet(const VhostNet&) = delete;
    VhostNet& operator=(const VhostNet&) = delete;
    ~VhostNet();

    // What of guest RAM there is now; again whenever some came or is about to go.
    Result<void> set_memory(const std::vector<MemoryRegion>& regions);
    // On error the kernel has let go of both rings, and where they stand is as before.
    Result<void> start(uint64_t features, const Ring& receive, const Ring& transmit, int tap_fd);
    Result<Positions> stop();
    bool running() const { return running_; }

private:
    VhostNet(UniqueFd device, VhostKernel& kernel, uint64_t features)
        : device_(std::move(device)), kernel_(kernel), features_(features) {}
    Result<void> call(unsigned long request, void* argument, std::string_view what);
    Result<void> set_ring(uint32_t index, const Ring& ring);
    Result<void> set_backend(uint32_t index, int fd);
    Result<uint16_t> ring_base(uint32_t index);

    const UniqueFd device_;
    VhostKernel& kernel_;
    const uint64_t features_;  // of the kernel
    std::mutex memory_mutex_;  // one table at a time
    bool running_ = false;
};

}  // namespace kumoi::hypervisor
