#include "hypervisor/net/tap.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <cerrno>

#include "hypervisor/upgrade/heritage.h"

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
        if (i > 0 && tap->active_) {
            TRY(tap->set_active(false));
        }
        queues.push_back(std::move(tap));
    }
    return queues;
}

Result<void> Tap::attach(FileSource& files, bool multi_queue) {
    fd_ = TRY(files.open_tap(device_, multi_queue));
    Heritage* heritage = files.heritage();
    const std::string name = "tap:" + device_;
    if (const auto known = heritage ? heritage->inherited_offloads(name) : std::nullopt) {
        inherit(*known);
    } else {
        TRY(set_up());
    }
    if (heritage != nullptr) {
        heritage->remember_offloads(name, tun_flags(supported_));
    }
    return {};
}

// A guest uses it now, through an older process: nothing about it changes until it is ours.
void Tap::inherit(uint32_t offloads) {
    supported_.checksum = (offloads & TUN_F_CSUM) != 0;
    supported_.tso4 = (offloads & TUN_F_TSO4) != 0;
    supported_.tso6 = (offloads & TUN_F_TSO6) != 0;
    supported_.ufo = (offloads & TUN_F_UFO) != 0;
    supported_.uso = (offloads & TUN_F_USO4) != 0;
    active_.reset();
}

Result<void> Tap::set_up() {
    int header_size = kHeaderSize;
    if (::ioctl(fd_.get(), TUNSETVNETHDRSZ, &header_size) != 0) {
        return Error::from_errno(errno, fmt::format("setting the header size of {}", device_));
    }
    probe_offloads();
    return {};
}

Result<void> Tap::set_active(bool active) {
    if (active_ == active) {
        return {};  // the kernel refuses to attach twice
    }
    ifreq request{};
    request.ifr_flags = active ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
    const bool same = !active_;  // perhaps: it was another's
    if (::ioctl(fd_.get(), TUNSETQUEUE, &request) != 0 && !(same && errno == EINVAL)) {
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
