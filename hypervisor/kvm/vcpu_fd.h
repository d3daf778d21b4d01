// VcpuFd: one virtual processor's KVM descriptor and its shared run page.
//
// Threading: run() is called by the vCPU's own thread only. The state functions may be called by
// another thread while the owner is parked (KVM takes the vCPU's mutex; a call during KVM_RUN would
// wait for it). set_immediate_exit() is safe from any thread at any time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hypervisor/kvm/kvm_abi.h"

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::hypervisor {

class VcpuFd {
public:
    // Called by KvmVm::create_vcpu().
    static Result<VcpuFd> adopt(UniqueFd fd, size_t mapping_size);

    // 0, or errno (EINTR: kicked; EAGAIN: try again; others are failures of the machine).
    int run();
    kvm_run& shared() { return *reinterpret_cast<kvm_run*>(mapping_.data()); }
    // Bytes of the pending port access. Empty when the offsets KVM gave leave the run page.
    std::span<uint8_t> io_data();
    void set_immediate_exit(bool on);

    Result<kvm_regs> regs() const;
    Result<void> set_regs(const kvm_regs& regs);
    Result<kvm_sregs> sregs() const;
    Result<void> set_sregs(const kvm_sregs& sregs);
    Result<kvm_mp_state> mp_state() const;
    Result<void> set_mp_state(uint32_t state);
    Result<kvm_lapic_state> lapic() const;
    Result<void> set_lapic(const kvm_lapic_state& lapic);
    Result<kvm_vcpu_events> events() const;
    Result<void> set_events(const kvm_vcpu_events& events);
    Result<kvm_fpu> fpu() const;
    Result<void> set_fpu(const kvm_fpu& fpu);
    Result<kvm_debugregs> debug_registers() const;
    Result<void> set_debug_registers(const kvm_debugregs& registers);
    Result<void> set_cpuid(std::span<const kvm_cpuid_entry2> entries);
    Result<std::vector<kvm_cpuid_entry2>> cpuid() const;
    // Sets in order; the answer is how many were taken before the first refused one.
    Result<size_t> set_msrs(std::span<const kvm_msr_entry> msrs);
    // Fills in `data`; the answer is how many could be read before the first unknown one.
    Result<size_t> get_msrs(std::span<kvm_msr_entry> msrs) const;
    // What a snapshot needs beyond a reset. xsave: as many bytes as Kvm::xsave_size().
    Result<kvm_sregs2> sregs2() const;
    Result<void> set_sregs2(const kvm_sregs2& sregs);
    Result<std::vector<std::byte>> xsave(size_t size) const;
    Result<void> set_xsave(std::span<const std::byte> area);
    Result<kvm_xcrs> xcrs() const;
    Result<void> set_xcrs(const kvm_xcrs& xcrs);
    Result<uint32_t> tsc_khz() const;
    Result<void> set_tsc_khz(uint32_t khz);
    // Guest TSC minus the host's. Linux 5.16 and newer; Unsupported before.
    Result<uint64_t> tsc_offset() const;
    Result<void> set_tsc_offset(uint64_t offset);
    // Tells a kvmclock guest that it stood still, so that its watchdogs keep calm.
    Result<void> kvmclock_paused();

    Result<void> inject_nmi();
    // Guest physical address behind a guest virtual one, by the guest's own page tables.
    Result<uint64_t> translate(uint64_t virtual_address) const;

private:
    UniqueFd fd_;
    Mapping mapping_;
};

}  // namespace kumoi::hypervisor
