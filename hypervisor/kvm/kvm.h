// Kvm and KvmVm: /dev/kvm and one virtual machine's descriptor as owned types. This file and
// kvm/vcpu_fd are the only ones that issue KVM ioctls; everything above speaks in these terms.
//
// Threading: Kvm is immutable after open(). KvmVm's functions are plain ioctls, which the kernel
// serialises; any thread may call them. Errors carry the ioctl's name and errno's text.
// Source: Linux Documentation/virt/kvm/api.rst, section numbers in the .cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hypervisor/kvm/kvm_abi.h"

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class DirtyRings;
class MemorySlots;
class VcpuFd;

// Issues one ioctl, again after EINTR; a negative answer becomes "<name> failed: <errno text>".
Result<int> kvm_ioctl(int fd, unsigned long request, uintptr_t argument, std::string_view name);

class Kvm {
public:
    static Result<Kvm> open(FileSource& files, const std::string& path = "/dev/kvm");

    int capability(int number) const;  // KVM_CHECK_EXTENSION; 0 when absent
    uint32_t vcpus_max() const;
    // What this kernel and processor can offer a guest (KVM_GET_SUPPORTED_CPUID).
    Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;
    // False on a KVM that works without VT-x or AMD-V (page-table virtualization): there, vmcall
    // and vmmcall do not reach KVM, so paravirtual features that need hypercalls must stay hidden.
    static bool hypercalls_work();
    // MSRs that this KVM can save and restore (KVM_GET_MSR_INDEX_LIST).
    Result<std::vector<uint32_t>> msr_indices() const;
    size_t xsave_size() const;  // bytes of VcpuFd::xsave()
    int fd() const { return fd_.get(); }
    size_t vcpu_mapping_size() const { return vcpu_mapping_size_; }

private:
    UniqueFd fd_;
    size_t vcpu_mapping_size_ = 0;
};

// The state of the chips KVM emulates for us, taken when fresh so that a reset can put it back.
struct KvmChipState {
    kvm_irqchip chips[3];
    kvm_pit_state2 pit;
};

class KvmVm {
public:
    // A machine with in-kernel PIC, IOAPIC, LAPICs and PIT, and no memory or vCPU yet.
    static Result<KvmVm> create(const Kvm& kvm);
    KvmVm(KvmVm&&) noexcept;
    KvmVm& operator=(KvmVm&&) noexcept;
    ~KvmVm();

    // `read_only`: guest writes leave KVM_RUN as MMIO (KVM_CAP_READONLY_MEM).
    Result<void> add_memory(uint32_t slot, const MemoryRegion& region, bool read_only = false);
    Result<void> remove_memory(uint32_t slot);
    Result<VcpuFd> create_vcpu(uint32_t index);

    // What a DirtyLog needs (kvm_dirty_log.h).
    MemorySlots& slots() { return *slots_; }
    // Before the first vCPU. `pages`: of the memory that will be logged.
    Result<void> enable_dirty_rings(uint32_t entries, uint64_t pages);
    DirtyRings& dirty_rings() const { return *rings_; }    // once enabled
    Result<void> enable_manual_dirty_log(uint64_t flags);  // while nothing is logged
    // One bit a page of the slot; clear: of the pages whose bits are set, `first` a multiple of 64.
    Result<void> get_dirty_log(uint32_t slot, std::span<uint64_t> bits) const;
    Result<void> clear_dirty_log(uint32_t slot, uint64_t first, uint64_t pages,
                                 std::span<uint64_t> bits) const;

    Result<void> set_gsi_routing(std::span<const kvm_irq_routing_entry> entries);
    Result<void> set_irq_line(uint32_t gsi, bool asserted);
    Result<void> add_irqfd(int eventfd, uint32_t gsi);
    Result<void> remove_irqfd(int eventfd, uint32_t gsi);
    // Any width and value (KVM_CAP_IOEVENTFD_NO_LENGTH).
    Result<void> add_ioeventfd(uint64_t gpa, int eventfd);
    Result<void> remove_ioeventfd(uint64_t gpa, int eventfd);
    Result<KvmChipState> chip_state() const;
    Result<void> set_chip_state(const KvmChipState& state);
    // kvmclock, nanoseconds. Put back after a pause so that the guest's time stood still.
    Result<uint64_t> clock() const;
    Result<void> set_clock(uint64_t nanoseconds);

private:
    KvmVm();
    const Kvm* kvm_ = nullptr;  // outlives the machine
    UniqueFd fd_;
    std::unique_ptr<MemorySlots> slots_;
    std::unique_ptr<DirtyRings> rings_;  // null: no vCPU has one
};

}  // namespace kumoi::hypervisor
