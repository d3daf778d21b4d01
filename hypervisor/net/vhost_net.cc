#include "hypervisor/net/vhost_net.h"

#include <linux/types.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

namespace kumoi::hypervisor {

namespace {

// linux/vhost.h is no C++ (a union with a flexible array); its layout is the kernel's ABI.
struct VringState {
    uint32_t index;
    uint32_t number;
};
struct VringFile {
    uint32_t index;
    int32_t fd;  // -1: none
};
struct VringAddress {
    uint32_t index;
    uint32_t flags;
    uint64_t descriptors;
    uint64_t used;
    uint64_t available;
    uint64_t log;
};
struct MemoryTableRegion {
    uint64_t gpa;
    uint64_t size;
    uint64_t host;
    uint64_t flags;
};
static_assert(sizeof(VringAddress) == 40);

constexpr unsigned kType = 0xaf;
constexpr unsigned long kGetFeatures = _IOR(kType, 0x00, uint64_t);
constexpr unsigned long kSetFeatures = _IOW(kType, 0x00, uint64_t);
constexpr unsigned long kSetOwner = _IO(kType, 0x01);
constexpr unsigned long kSetMemoryTable = _IOW(kType, 0x03, uint64_t);  // of its first 8 bytes
constexpr unsigned long kSetVringNumber = _IOW(kType, 0x10, VringState);
constexpr unsigned long kSetVringAddress = _IOW(kType, 0x11, VringAddress);
constexpr unsigned long kSetVringBase = _IOW(kType, 0x12, VringState);
constexpr unsigned long kGetVringBase = _IOWR(kType, 0x12, VringState);
constexpr unsigned long kSetVringKick = _IOW(kType, 0x20, VringFile);
constexpr unsigned long kSetVringCall = _IOW(kType, 0x21, VringFile);
constexpr unsigned long kSetBackend = _IOW(kType, 0x30, VringFile);

constexpr uint64_t kVersion1 = 1ull << 32;
constexpr uint64_t kMergeable = 1ull << 15;
constexpr uint32_t kReceive = 0;
constexpr uint32_t kTransmit = 1;

class SystemVhostKernel final : public VhostKernel {
public:
    int call(int fd, unsigned long request, void* argument) override {
        return ::ioctl(fd, request, argument) < 0 ? -errno : 0;
    }
};

uint64_t address(const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer);
}

}  // namespace

VhostKernel& system_vhost_kernel() {
    static SystemVhostKernel kernel;
    return kernel;
}

Result<std::unique_ptr<VhostNet>> VhostNet::create(UniqueFd device, VhostKernel& kernel) {
    uint64_t features = 0;
    const int owned = kernel.call(device.get(), kSetOwner, nullptr);
    if (owned != 0) {
        return Error::from_errno(-owned, "becoming the owner of a vhost-net device");
    }
    const int told = kernel.call(device.get(), kGetFeatures, &features);
    if (told != 0) {
        return Error::from_errno(-told, "asking vhost-net for its features");
    }
    if ((features & (kVersion1 | kMergeable)) != (kVersion1 | kMergeable)) {
        return Error::unsupported("vhost-net of this kernel offers {:#x} and not modern virtio",
                                  features)
            .with_hint("set the card's \"vhost\" to \"off\"");
    }
    return std::unique_ptr<VhostNet>(new VhostNet(std::move(device), kernel, features));
}

VhostNet::~VhostNet() {
    if (running_) {
        (void)stop();
    }
}

Result<void> VhostNet::call(unsigned long request, void* argument, std::string_view what) {
    const int done = kernel_.call(device_.get(), request, argument);
    return done == 0 ? Result<void>()
                     : Result<void>(Error::from_errno(-done, fmt::format("vhost-net: {}", what)));
}

Result<void> VhostNet::set_memory(const std::vector<MemoryRegion>& regions) {
    std::vector<uint64_t> table = {regions.size()};  // the count, and 32 bits of padding
    for (const MemoryRegion& region : regions) {
        const MemoryTableRegion entry{region.gpa, region.size, address(region.host), 0};
        table.insert(table.end(), {entry.gpa, entry.size, entry.host, entry.flags});
    }
    const std::lock_guard lock(memory_mutex_);
    return call(kSetMemoryTable, table.data(), fmt::format("{} regions of RAM", regions.size()));
}

Result<void> VhostNet::set_ring(uint32_t index, const Ring& ring) {
    VringState number{index, ring.size};
    VringState base{index, ring.base};
    VringAddress where{
        index, 0, address(ring.descriptors), address(ring.used), address(ring.available), 0};
    VringFile kick{index, ring.kick_fd};
    VringFile interrupt{index, ring.call_fd};
    TRY(call(kSetVringNumber, &number, "the size of a ring"));
    TRY(call(kSetVringBase, &base, "the position in a ring"));
    TRY(call(kSetVringAddress, &where, "the addresses of a ring"));
    TRY(call(kSetVringKick, &kick, "the doorbell of a ring"));
    return call(kSetVringCall, &interrupt, "the interrupt of a ring");
}

Result<void> VhostNet::set_backend(uint32_t index, int fd) {
    VringFile backend{index, fd};
    return call(kSetBackend, &backend, fd < 0 ? "taking a ring back" : "the TAP of a ring");
}

Result<uint16_t> VhostNet::ring_base(uint32_t index) {
    VringState state{index, 0};
    TRY(call(kGetVringBase, &state, "where a ring stands"));
    return static_cast<uint16_t>(state.number);
}

Result<void> VhostNet::start(uint64_t features, const Ring& receive, const Ring& transmit,
                             int tap_fd) {
    uint64_t wanted = features & kRingFeatures;
    if ((wanted & ~features_) != 0) {
        return Error::unsupported(
            "vhost-net does not offer the features {:#x} that the driver "
            "agreed to",
            wanted & ~features_);
    }
    TRY(call(kSetFeatures, &wanted, "the features"));
    TRY(set_ring(kReceive, receive));
    TRY(set_ring(kTransmit, transmit));
    running_ = true;
    auto begun = [&]() -> Result<void> {
        TRY(set_backend(kReceive, tap_fd));
        return set_backend(kTransmit, tap_fd);
    }();
    if (!begun.ok()) {
        (void)stop();
    }
    return begun;
}

// The kernel waits for what it has begun before the answer to the first two.
Result<VhostNet::Positions> VhostNet::stop() {
    running_ = false;
    const auto receive = set_backend(kReceive, -1);
    const auto transmit = set_backend(kTransmit, -1);
    TRY(receive);
    TRY(transmit);
    Positions positions;
    positions.receive = TRY(ring_base(kReceive));
    positions.transmit = TRY(ring_base(kTransmit));
    return positions;
}

}  // namespace kumoi::hypervisor
