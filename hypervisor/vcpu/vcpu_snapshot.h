// The whole state of one vCPU as a section, taken while its thread is parked, and put into a fresh
// one before it first runs.
//
// Order of saving: the MP state first (reading it can run pending APIC events), events last; of
// loading: CPUID, MP state, registers, the LAPIC behind SREGS2 (which has its base), MSRs behind
// the LAPIC (the TSC deadline), events last (registers clear them).
// Refused with reasons, before anything is changed, by check_vcpu(): CPU features, TSC frequency,
// XSAVE areas the host does not have. A guest that runs guests of its own is not saved.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/kvm/kvm.h"
#include "hypervisor/kvm/vcpu_fd.h"
#include "hypervisor/snapshot/section.h"
#include "hypervisor/vcpu/cpu_model.h"

namespace kumoi::hypervisor {

// What this host's KVM offers, asked once for all vCPUs.
struct VcpuHost {
    size_t xsave_size = 0;
    std::vector<uint32_t> msrs;  // sorted
    CpuidTable supported_cpuid;
    bool tsc_scales = false;  // KVM_CAP_TSC_CONTROL

    static Result<VcpuHost> ask(const Kvm& kvm);
};

uint64_t read_host_tsc();

// `host_tsc`: the host's TSC now; one and the same for all vCPUs of a machine.
Result<void> save_vcpu(const VcpuFd& vcpu, const VcpuHost& host, uint64_t host_tsc,
                       SectionWriter& out);
// Every reason why this vCPU cannot take that state; empty: it can. Malformed state is an Error.
Result<std::vector<std::string>> check_vcpu(const VcpuFd& vcpu, const VcpuHost& host,
                                            SectionReader& in);
// The guest's TSC goes on from where it stood at save_vcpu(), or would stand `moved_ns` later.
Result<void> load_vcpu(VcpuFd& vcpu, const VcpuHost& host, uint64_t host_tsc, SectionReader& in,
                       int64_t moved_ns = 0);

}  // namespace kumoi::hypervisor
