#include "hypervisor/vcpu/vcpu_snapshot.h"

#include <algorithm>
#include <cstring>

#include <x86intrin.h>

#include "base/log.h"
#include "hypervisor/vcpu/msr_table.h"

namespace kumoi::hypervisor {

namespace {

// Fields of the section; never reused. Structures are the kernel's, as KVM's API fixes them.
enum Field : uint16_t {
    kFieldMpState = 1,
    kFieldRegs = 2,
    kFieldSregs2 = 3,
    kFieldXsave = 4,
    kFieldXcrs = 5,
    kFieldDebugRegisters = 6,
    kFieldLapic = 7,
    kFieldCpuid = 8,  // kvm_cpuid_entry2, one after the other
    kFieldTscKhz = 9,
    kFieldMsrs = 10,  // u32 index, u32 zero, u64 value
    kFieldEvents = 11,
    kFieldTscOffset = 12,
    kFieldHostTsc = 13,
};

constexpr uint32_t kMsrTsc = 0x10;
constexpr uint64_t kCr4Vmxe = 1u << 13;
constexpr uint64_t kEferSvme = 1u << 12;
constexpr size_t kCpuidEntriesMax = 256;
constexpr size_t kXsaveSizeMax = 1u << 16;
// Beyond this (250 ppm, what NTP can make of a clock), a guest's time would be wrong.
constexpr uint64_t kTscTolerancePpm = 250;

struct SavedMsr {
    uint32_t index;
    uint32_t zero;
    uint64_t value;
};
static_assert(sizeof(SavedMsr) == sizeof(kvm_msr_entry));

template <class T>
Result<std::vector<T>> array_of(SectionReader& in, uint16_t id, size_t count_max) {
    const auto bytes = TRY(in.bytes(id));
    if (bytes.size() % sizeof(T) != 0 || bytes.size() / sizeof(T) > count_max) {
        return in.refuse(id, fmt::format("has {} bytes, not up to {} entries of {}", bytes.size(),
                                         count_max, sizeof(T)));
    }
    std::vector<T> all(bytes.size() / sizeof(T));
    if (!all.empty()) {
        std::memcpy(all.data(), bytes.data(), bytes.size());
    }
    return all;
}

Result<void> save_msrs(const VcpuFd& vcpu, const VcpuHost& host, SectionWriter& out) {
    std::vector<SavedMsr> saved;
    for (const MsrInfo& info : msr_table()) {
        if (!std::ranges::binary_search(host.msrs, info.index)) {
            continue;
        }
        kvm_msr_entry entry{};
        entry.index = info.index;
        const size_t read = TRY(vcpu.get_msrs({&entry, 1}));
        if (read == 1) {
            saved.push_back({info.index, 0, entry.data});
        } else if (info.rule == MsrRule::MustSet) {
            log_debug("vcpu", "an MSR cannot be read", {{"msr", info.name}});
        }
    }
    out.bytes(kFieldMsrs, std::as_bytes(std::span(saved)));
    return {};
}

Result<void> set_msr(VcpuFd& vcpu, const SavedMsr& saved) {
    kvm_msr_entry entry{};
    entry.index = saved.index;
    entry.data = saved.value;
    if (TRY(vcpu.set_msrs({&entry, 1})) == 1 || saved.value == 0) {
        return {};
    }
    const MsrInfo* info = find_msr(saved.index);
    const std::string name =
        info != nullptr ? std::string(info->name) : fmt::format("{:#x}", saved.index);
    if (info == nullptr || info->rule == MsrRule::MayDrop) {
        log_warn("vcpu", "the host refuses an MSR of the guest: it is dropped",
                 {{"msr", name}, {"value", fmt::format("{:#x}", saved.value)}});
        return {};
    }
    return Error::unsupported("this host refuses the value {:#x} of MSR {}", saved.value, name);
}

// In the table's order, which is ours and not the file's.
Result<void> load_msrs(VcpuFd& vcpu, SectionReader& in, bool with_tsc) {
    const auto saved = TRY(array_of<SavedMsr>(in, kFieldMsrs, 1024));
    for (const SavedMsr& msr : saved) {
        if (find_msr(msr.index) == nullptr) {
            TRY(set_msr(vcpu, msr));  // of a later release: drops it if need be
        }
    }
    for (const MsrInfo& info : msr_table()) {
        const auto found = std::ranges::find(saved, info.index, &SavedMsr::index);
        if (found == saved.end() || (info.index == kMsrTsc && !with_tsc)) {
            continue;
        }
        TRY(set_msr(vcpu, *found));
    }
    return {};
}

std::string tsc_reason(uint64_t saved_khz, uint64_t host_khz, bool scales) {
    const uint64_t apart = saved_khz > host_khz ? saved_khz - host_khz : host_khz - saved_khz;
    if (scales || apart * 1'000'000 <= host_khz * kTscTolerancePpm) {
        return {};
    }
    return fmt::format(
        "the guest's TSC runs at {} kHz, this host's at {} kHz, and KVM cannot scale it here",
        saved_khz, host_khz);
}

std::vector<std::string> missing_features(const CpuidTable& saved, const CpuidTable& mine,
                                          const CpuidTable& supported) {
    // KVM shows these by what the guest has turned on, not by what the host has.
    static const std::vector<std::string> kDynamic = {"osxsave", "ospke", "apic"};
    const auto offered = unmasked_features(supported, saved);
    std::vector<std::string> missing;
    for (const std::string& name : unmasked_features(mine, saved)) {
        if (std::ranges::find(offered, name) != offered.end() &&
            std::ranges::find(kDynamic, name) == kDynamic.end()) {
            missing.push_back(name);
        }
    }
    return missing;
}

}  // namespace

uint64_t read_host_tsc() {
    return __rdtsc();
}

Result<VcpuHost> VcpuHost::ask(const Kvm& kvm) {
    VcpuHost host;
    host.xsave_size = kvm.xsave_size();
    host.msrs = TRY(kvm.msr_indices());
    std::ranges::sort(host.msrs);
    host.supported_cpuid = TRY(kvm.supported_cpuid());
    host.tsc_scales = kvm.capability(KVM_CAP_TSC_CONTROL) > 0;
    return host;
}

Result<void> save_vcpu(const VcpuFd& vcpu, const VcpuHost& host, uint64_t host_tsc,
                       SectionWriter& out) {
    const kvm_mp_state mp_state = TRY(vcpu.mp_state());
    out.u64(kFieldMpState, mp_state.mp_state).object(kFieldRegs, TRY(vcpu.regs()));
    const kvm_sregs2 sregs = TRY(vcpu.sregs2());
    if ((sregs.cr4 & kCr4Vmxe) != 0 || (sregs.efer & kEferSvme) != 0) {
        return Error::unsupported(
                   "the guest runs guests of its own (nested virtualization), whose "
                   "state is not saved")
            .with_hint("stop them, and unload KVM in the guest");
    }
    out.object(kFieldSregs2, sregs);
    const std::vector<std::byte> xsave = TRY(vcpu.xsave(host.xsave_size));
    out.bytes(kFieldXsave, std::span<const std::byte>(xsave));
    out.object(kFieldXcrs, TRY(vcpu.xcrs()))
        .object(kFieldDebugRegisters, TRY(vcpu.debug_registers()));
    out.object(kFieldLapic, TRY(vcpu.lapic()));
    const CpuidTable cpuid = TRY(vcpu.cpuid());
    out.bytes(kFieldCpuid, std::as_bytes(std::span(cpuid)));
    out.u64(kFieldTscKhz, TRY(vcpu.tsc_khz()));
    if (const auto offset = vcpu.tsc_offset()) {
        out.u64(kFieldTscOffset, *offset).u64(kFieldHostTsc, host_tsc);
    }
    TRY(save_msrs(vcpu, host, out));
    out.object(kFieldEvents, TRY(vcpu.events()));
    return {};
}

Result<std::vector<std::string>> check_vcpu(const VcpuFd& vcpu, const VcpuHost& host,
                                            SectionReader& in) {
    std::vector<std::string> reasons;
    const auto cpuid = TRY(array_of<kvm_cpuid_entry2>(in, kFieldCpuid, kCpuidEntriesMax));
    const auto missing = missing_features(cpuid, TRY(vcpu.cpuid()), host.supported_cpuid);
    for (const std::string& name : missing) {
        reasons.push_back(
            fmt::format("the guest uses the CPU feature {}, which this host or the "
                        "guest's CPU model lacks",
                        name));
    }
    const uint64_t khz = TRY(in.u64_max(kFieldTscKhz, 100'000'000));
    if (auto reason = tsc_reason(khz, TRY(vcpu.tsc_khz()), host.tsc_scales); !reason.empty()) {
        reasons.push_back(std::move(reason));
    }
    const size_t xsave = TRY(in.bytes(kFieldXsave)).size();
    if (xsave > host.xsave_size) {
        reasons.push_back(
            fmt::format("the guest's extended registers need {} bytes, this host has "
                        "{}",
                        xsave, host.xsave_size));
    }
    return reasons;
}

Result<void> load_vcpu(VcpuFd& vcpu, const VcpuHost& host, uint64_t host_tsc, SectionReader& in,
                       int64_t moved_ns) {
    TRY(vcpu.set_cpuid(TRY(array_of<kvm_cpuid_entry2>(in, kFieldCpuid, kCpuidEntriesMax))));
    const auto khz = static_cast<uint32_t>(TRY(in.u64_max(kFieldTscKhz, 100'000'000)));
    if (host.tsc_scales && khz != TRY(vcpu.tsc_khz())) {
        TRY(vcpu.set_tsc_khz(khz));
    }
    TRY(vcpu.set_mp_state(TRY(in.u32(kFieldMpState))));
    TRY(vcpu.set_regs(TRY(in.object<kvm_regs>(kFieldRegs))));
    TRY(vcpu.set_sregs2(TRY(in.object<kvm_sregs2>(kFieldSregs2))));
    const auto xsave = TRY(in.bytes(kFieldXsave));
    if (xsave.size() > kXsaveSizeMax || xsave.size() < sizeof(kvm_xsave)) {
        return in.refuse(kFieldXsave, fmt::format("has {} bytes", xsave.size()));
    }
    std::vector<std::byte> area(xsave.begin(), xsave.end());
    area.resize(std::max(area.size(), host.xsave_size));  // the kernel reads that many
    TRY(vcpu.set_xsave(area));
    TRY(vcpu.set_xcrs(TRY(in.object<kvm_xcrs>(kFieldXcrs))));
    TRY(vcpu.set_debug_registers(TRY(in.object<kvm_debugregs>(kFieldDebugRegisters))));
    TRY(vcpu.set_lapic(TRY(in.object<kvm_lapic_state>(kFieldLapic))));
    bool tsc_done = false;
    if (in.has(kFieldTscOffset) && vcpu.tsc_offset()) {
        const uint64_t then = TRY(in.u64(kFieldTscOffset)) + TRY(in.u64(kFieldHostTsc));
        const uint64_t moved_us = static_cast<uint64_t>(moved_ns) / 1000;
        const uint64_t moved = moved_us * khz / 1000;  // ticks
        TRY(vcpu.set_tsc_offset(then + moved - host_tsc));
        tsc_done = true;
    }
    TRY(load_msrs(vcpu, in, !tsc_done));
    TRY(vcpu.set_events(TRY(in.object<kvm_vcpu_events>(kFieldEvents))));
    if (!vcpu.kvmclock_paused()) {
        log_debug("vcpu", "this guest does not use kvmclock, or not yet");
    }
    return in.finish();
}

}  // namespace kumoi::hypervisor
