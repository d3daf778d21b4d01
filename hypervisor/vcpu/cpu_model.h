// The CPU a guest sees: CPUID built from what KVM offers, through a named model, with per-guest
// features added and masked by name.
//
//     CpuSelection selection{.model = "kumoi-v1", .add = {"aes"}, .mask = {"kvm-pv-eoi"}};
//     auto table = TRY(build_cpuid(kvm_supported, selection, {.hypercalls_work = true}));
//     for each vCPU: fd.set_cpuid(cpuid_for_vcpu(table, index, count));
//
// Models: "host" shows everything KVM offers; "kumoi-v1" is x86-64-v2 plus what every host since
// 2013 has, so guests move between unlike hosts of one vendor. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hypervisor/kvm/kvm_abi.h"

#include "base/result.h"

namespace kumoi::hypervisor {

using CpuidTable = std::vector<kvm_cpuid_entry2>;

struct CpuSelection {
    std::string model = "host";
    std::vector<std::string> add;
    std::vector<std::string> mask;
};

struct CpuHost {
    bool hypercalls_work = true;  // see Kvm::hypercalls_work()
};

std::vector<std::string> cpu_model_names();
// Names only: usable before /dev/kvm is opened.
Result<void> check_cpu_selection(const CpuSelection& selection);
// Refuses features the host does not have, listing all of them.
Result<CpuidTable> build_cpuid(const CpuidTable& supported, const CpuSelection& selection,
                               const CpuHost& host);
// The same with APIC id and topology of one vCPU: one package of `count` cores.
CpuidTable cpuid_for_vcpu(const CpuidTable& table, uint32_t index, uint32_t count);
// Feature bits that are in `actual` and not in `asked`: masks the host did not honour.
std::vector<std::string> unmasked_features(const CpuidTable& asked, const CpuidTable& actual);

}  // namespace kumoi::hypervisor
