#include "hypervisor/memory/memory_host.h"

#include <cerrno>
#include <vector>

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif

namespace kumoi::hypervisor {

namespace {

class SystemMemoryHost final : public MemoryHost {
public:
    Result<UniqueFd> make_file(uint64_t huge_page_size) override {
        unsigned flags = MFD_CLOEXEC;
        if (huge_page_size != 0) {
            const auto log2 = static_cast<unsigned>(__builtin_ctzll(huge_page_size));
            flags |= MFD_HUGETLB | log2 << MFD_HUGE_SHIFT;
        }
        UniqueFd file(memfd_create("kumoi-guest-ram", flags));
        if (!file.is_open()) {
            const int error = errno;
            auto refused = Error::from_errno(error, "creating the memory file of the guest");
            return huge_page_size == 0 ? std::move(refused)
                                       : std::move(refused).with_hint(
                                             "this host's kernel has no huge pages of that size");
        }
        return file;
    }

    Result<void> use_transparent_huge_pages(std::span<std::byte> memory) override {
        if (madvise(memory.data(), memory.size(), MADV_HUGEPAGE) != 0) {
            return Error::from_errno(errno, "asking for transparent huge pages");
        }
        return {};
    }

    Result<void> bind(std::span<std::byte> memory, uint32_t host_node) override {
        constexpr size_t kBits = 8 * sizeof(unsigned long);
        std::vector<unsigned long> mask(host_node / kBits + 1);
        mask[host_node / kBits] = 1ul << (host_node % kBits);
        // The kernel reads one bit less than it is told (mbind(2), "maxnode").
        if (syscall(SYS_mbind, memory.data(), memory.size(), MPOL_BIND, mask.data(),
                    mask.size() * kBits + 1, 0u) != 0) {
            return Error::from_errno(errno,
                                     fmt::format("binding guest memory to host node {}", host_node))
                .with_hint("see /sys/devices/system/node for the nodes of this host");
        }
        return {};
    }

    Result<void> populate(std::span<std::byte> memory) override {
        if (madvise(memory.data(), memory.size(), MADV_POPULATE_WRITE) == 0) {
            return {};
        }
        if (errno != EINVAL) {
            return Error::from_errno(errno, "making the guest's memory pages")
                .with_hint("the host has too little memory, or too few huge pages, for this guest");
        }
        constexpr size_t kPage = 4096;  // a kernel before 5.14: touch them
        for (size_t at = 0; at < memory.size(); at += kPage) {
            auto* byte = reinterpret_cast<volatile std::byte*>(memory.data() + at);
            *byte = *byte;
        }
        return {};
    }
};

}  // namespace

MemoryHost& system_memory_host() {
    static SystemMemoryHost host;  // no state
    return host;
}

}  // namespace kumoi::hypervisor
