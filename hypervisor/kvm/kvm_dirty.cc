// The ioctls of KvmVm that tell which pages were written.
#include "hypervisor/kvm/dirty_ring.h"
#include "hypervisor/kvm/kvm.h"
#include "hypervisor/kvm/memory_slots.h"

namespace kumoi::hypervisor {

// Linux 5.11, api.rst §8.29. x86 keeps the order of stores, so ACQ_REL offers nothing more.
Result<void> KvmVm::enable_dirty_rings(uint32_t entries, uint64_t pages) {
    kvm_enable_cap enable{};
    enable.cap = KVM_CAP_DIRTY_LOG_RING;
    enable.args[0] = entries * sizeof(kvm_dirty_gfn);
    const int fd = fd_.get();
    TRY(kvm_ioctl(fd, KVM_ENABLE_CAP, reinterpret_cast<uintptr_t>(&enable),
                  "KVM_ENABLE_CAP(DIRTY_LOG_RING)"));
    rings_ = std::make_unique<DirtyRings>(entries, *slots_, pages, [fd]() -> Result<uint64_t> {
        return static_cast<uint64_t>(
            TRY(kvm_ioctl(fd, KVM_RESET_DIRTY_RINGS, 0, "KVM_RESET_DIRTY_RINGS")));
    });
    return {};
}

// Linux 5.0 (INITIALLY_SET: 5.7), api.rst §7.18.
Result<void> KvmVm::enable_manual_dirty_log(uint64_t flags) {
    kvm_enable_cap enable{};
    enable.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
    enable.args[0] = flags;
    TRY(kvm_ioctl(fd_.get(), KVM_ENABLE_CAP, reinterpret_cast<uintptr_t>(&enable),
                  "KVM_ENABLE_CAP(MANUAL_DIRTY_LOG_PROTECT2)"));
    return {};
}

Result<void> KvmVm::get_dirty_log(uint32_t slot, std::span<uint64_t> bits) const {
    kvm_dirty_log argument{};
    argument.slot = slot;
    argument.dirty_bitmap = bits.data();
    TRY(kvm_ioctl(fd_.get(), KVM_GET_DIRTY_LOG, reinterpret_cast<uintptr_t>(&argument),
                  "KVM_GET_DIRTY_LOG"));
    return {};
}

Result<void> KvmVm::clear_dirty_log(uint32_t slot, uint64_t first, uint64_t pages,
                                    std::span<uint64_t> bits) const {
    kvm_clear_dirty_log argument{};
    argument.slot = slot;
    argument.first_page = first;
    argument.num_pages = static_cast<uint32_t>(pages);
    argument.dirty_bitmap = bits.data();
    TRY(kvm_ioctl(fd_.get(), KVM_CLEAR_DIRTY_LOG, reinterpret_cast<uintptr_t>(&argument),
                  "KVM_CLEAR_DIRTY_LOG"));
    return {};
}

}  // namespace kumoi::hypervisor
