#include "hypervisor/vcpu/vcpu_state.h"

#include <span>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kCr0Pe = 1u << 0;
constexpr uint64_t kCr0Et = 1u << 4;
constexpr uint64_t kCr0Pg = 1u << 31;
constexpr uint64_t kCr4Pae = 1u << 5;
constexpr uint64_t kEferLme = 1u << 8;
constexpr uint64_t kEferLma = 1u << 10;
constexpr uint16_t kCodeSelector = 0x10;
constexpr uint16_t kDataSelector = 0x18;
constexpr uint64_t kRflagsReserved = 0x2;

// Values after power-on (Intel SDM vol. 3A table 10-1), with what firmware would have set: MTRRs on
// with write-back as default type, fast strings. Zero for the rest, so a reset leaves nothing of
// the previous guest kernel: its kvmclock pages above all.
constexpr kvm_msr_entry kBootMsrs[] = {
    {0x1a0, 0, 1},                      // IA32_MISC_ENABLE: fast strings
    {0x2ff, 0, 0x806},                  // IA32_MTRR_DEF_TYPE: enabled, write-back
    {0x277, 0, 0x0007'0406'0007'0406},  // IA32_PAT
    {0x174, 0, 0},                      // SYSENTER_CS, ESP, EIP
    {0x175, 0, 0},
    {0x176, 0, 0},
    {0xc000'0081, 0, 0},  // STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE
    {0xc000'0082, 0, 0},
    {0xc000'0083, 0, 0},
    {0xc000'0084, 0, 0},
    {0xc000'0102, 0, 0},
    {0x4b56'4d00, 0, 0},  // kvmclock wall clock and system time
    {0x4b56'4d01, 0, 0},
    {0x4b56'4d02, 0, 0},  // async page fault, steal time, PV EOI
    {0x4b56'4d03, 0, 0},
    {0x4b56'4d04, 0, 0},
};

kvm_segment flat_segment(uint16_t selector, uint8_t type, bool long_mode) {
    kvm_segment segment{};
    segment.limit = 0xffff'ffff;
    segment.selector = selector;
    segment.type = type;
    segment.present = 1;
    segment.s = 1;
    segment.g = 1;
    segment.l = long_mode ? 1 : 0;
    segment.db = long_mode ? 0 : 1;
    return segment;
}

kvm_sregs entry_sregs(kvm_sregs sregs, EntryMode mode) {
    constexpr uint8_t kCodeType = 0xb;  // execute, read, accessed
    constexpr uint8_t kDataType = 0x3;  // read, write, accessed
    constexpr uint8_t kBusyTss = 0xb;
    const bool long_mode = mode == EntryMode::Long64;
    sregs.cs = flat_segment(kCodeSelector, kCodeType, long_mode);
    const kvm_segment data = flat_segment(kDataSelector, kDataType, false);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.tr = kvm_segment{};
    sregs.tr.type = kBusyTss;
    sregs.tr.limit = 0x67;
    sregs.tr.present = 1;
    sregs.gdt.base = boot_layout::kGdt;
    sregs.gdt.limit = 4 * 8 - 1;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = kCr0Pe | kCr0Et | (long_mode ? kCr0Pg : 0);
    sregs.cr3 = long_mode ? boot_layout::kPageTables : 0;
    sregs.cr4 = long_mode ? kCr4Pae : 0;
    sregs.efer = long_mode ? kEferLme | kEferLma : 0;
    return sregs;
}

}  // namespace

Result<VcpuResetState> capture_reset_state(const VcpuFd& vcpu) {
    VcpuResetState state{};
    state.sregs = TRY(vcpu.sregs());
    state.lapic = TRY(vcpu.lapic());
    state.events = TRY(vcpu.events());
    state.fpu = TRY(vcpu.fpu());
    state.debug_registers = TRY(vcpu.debug_registers());
    return state;
}

// SREGS before LAPIC, which needs the APIC base; events last, as setting registers may clear them.
Result<void> apply_reset_state(VcpuFd& vcpu, const VcpuResetState& state, bool first) {
    TRY(vcpu.set_mp_state(first ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED));
    kvm_regs regs{};
    regs.rflags = kRflagsReserved;
    TRY(vcpu.set_regs(regs));
    TRY(vcpu.set_sregs(state.sregs));
    TRY(vcpu.set_fpu(state.fpu));
    TRY(vcpu.set_debug_registers(state.debug_registers));
    TRY(vcpu.set_lapic(state.lapic));
    TRY(apply_boot_msrs(vcpu));
    return vcpu.set_events(state.events);
}

// KVM stops at the first MSR it refuses. A processor may lack one of ours: go on behind it.
Result<void> apply_boot_msrs(VcpuFd& vcpu) {
    std::span<const kvm_msr_entry> rest(kBootMsrs);
    while (!rest.empty()) {
        const size_t taken = TRY(vcpu.set_msrs(rest));
        if (taken < rest.size()) {
            log_debug("vcpu", "KVM refused a boot MSR",
                      {{"msr", fmt::format("{:#x}", uint32_t{rest[taken].index})}});
        }
        rest = rest.subspan(std::min(taken + 1, rest.size()));
    }
    return {};
}

Result<void> apply_reset_vector(VcpuFd& vcpu) {
    constexpr kvm_msr_entry kMtrrsOff[] = {{0x2ff, 0, 0}};  // firmware sets its own
    TRY(vcpu.set_msrs(kMtrrsOff));
    kvm_regs regs{};
    regs.rflags = kRflagsReserved;
    regs.rip = 0xfff0;
    return vcpu.set_regs(regs);
}

Result<void> apply_entry_point(VcpuFd& vcpu, const EntryPoint& entry) {
    TRY(vcpu.set_sregs(entry_sregs(TRY(vcpu.sregs()), entry.mode)));
    kvm_regs regs{};
    regs.rflags = kRflagsReserved;
    regs.rip = entry.address;
    regs.rsp = boot_layout::kStackTop;
    if (entry.mode == EntryMode::Long64) {
        regs.rsi = entry.argument;
    } else {
        regs.rbx = entry.argument;
    }
    return vcpu.set_regs(regs);
}

}  // namespace kumoi::hypervisor
