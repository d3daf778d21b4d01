#include "hypervisor/net/tap.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <cerrno>

// Linux 6.2; Debian 12's headers are older.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

namespace kumoi::hypervisor {

namespace {

unsigned tun_flags(const NetOffloads& offloads) {
    if (!offloads.checksum) {
        return 0;
    }
    unsigned flags = TUN_F_CSUM;
    flags |= offloads.tso4 ? TUN_F_TSO4 : 0u;
    flags |= offloads.tso6 ? TUN_F_TSO6 : 0u;
    flags |= offloads.ufo ? TUN_F_UFO : 0u;
    flags |= offloads.uso ? TUN_F_USO4 | TUN_F_USO6 : 0u;
    return flags;
}

}  // namespace

Result<std::unique_ptr<NetBackend>> Tap::open(FileSource& files, const std::string& device) {
    auto queues = TRY(open_queues(files, device, 1));
    return std::move(queues.front());
}

Result<std::vector<std::unique_ptr<NetBackend>>> Tap::open_queues(FileSource& files,
                                                                  const std::string& device,
                                                                  unsigned count) {
    std::vector<std::unique_ptr<NetBackend>> queues;
    for (unsigned i = 0; i < count; ++i) {
        std::unique_ptr<Tap> tap(new Tap(device));
        TRY(tap->attach(files, count > 1));
        tap->probe_offloads();
        if (i > 0) {
            TRY(tap->set_active(false));
        }
        queues.push_back(std::move(tap));
    }
    return queues;
}

Result<void> Tap::attach(FileSource& files, bool multi_queue) {
    fd_ = TRY(files.open_tap(device_, multi_queue));
    int header_size = kHeaderSize;
    if (::ioctl(fd_.get(), TUNSETVNETHDRSZ, &header_size) != 0) {
        return Error::from_errno(errno, fmt::format("setting the header size of {}", device_));
    }
    return {};
}

Result<void> Tap::set_active(bool active) {
    if (active == active_) {
        return {};  // the kernel refuses to attach twice
    }
    ifreq request{};
    request.ifr_flags = active ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
    if (::ioctl(fd_.get(), TUNSETQUEUE, &request) != 0) {
        return Error::from_errno(errno, fmt::format("switching a queue of TAP device {}", device_));
    }
    active_ = active;
    return {};
}

// What this kernel's tun driver can do: it refuses flags it does not know.
void Tap::probe_offloads() {
    const auto accepts = [this](unsigned flags) {
        return ::ioctl(fd_.get(), TUNSETOFFLOAD, flags) == 0;
    };
    supported_.checksum = accepts(TUN_F_CSUM);
    supported_.tso4 = supported_.checksum && accepts(TUN_F_CSUM | TUN_F_TSO4);
    supported_.tso6 = supported_.checksum && accepts(TUN_F_CSUM | TUN_F_TSO6);
    supported_.ufo = supported_.checksum && accepts(TUN_F_CSUM | TUN_F_UFO);
    supported_.uso = supported_.checksum && accepts(TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6);
    (void)accepts(0);
}

Result<void> Tap::set_offloads(const NetOffloads& offloads) {
    if (::ioctl(fd_.get(), TUNSETOFFLOAD, tun_flags(offloads)) != 0) {
        return Error::from_errno(errno, fmt::format("setting the offloads of {}", device_));
    }
    return {};
}

int64_t Tap::receive(std::span<const iovec> vectors) {
    const ssize_t size = ::readv(fd_.get(), vectors.data(), static_cast<int>(vectors.size()));
    return size < 0 ? -errno : size;
}

int64_t Tap::send(std::span<const iovec> vectors) {
    const ssize_t size = ::writev(fd_.get(), vectors.data(), static_cast<int>(vectors.size()));
    return size < 0 ? -errno : size;
}

}  // namespace kumoi::hypervisor
