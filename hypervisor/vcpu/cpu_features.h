// The names of CPU feature bits and where CPUID has them. Names are those of Linux and QEMU in
// lower case with dashes, so what an operator finds in /proc/cpuinfo or a QEMU command line works
// here. Pure data; Intel SDM vol. 2A "CPUID", AMD APM vol. 3 appendix E, KVM
// Documentation/virt/kvm/x86/cpuid.rst.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kumoi::hypervisor {

enum class CpuidRegister : uint8_t { Eax, Ebx, Ecx, Edx };

struct CpuFeature {
    std::string_view name;
    uint32_t leaf;
    uint32_t subleaf;
    CpuidRegister reg;
    uint8_t bit;
};

std::span<const CpuFeature> cpu_features();
// An error names the nearest feature.
Result<const CpuFeature*> find_cpu_feature(std::string_view name);
// "popcnt", or "cpuid(0x7,0).ebx[13]" for a bit without a name.
std::string cpu_feature_name(uint32_t leaf, uint32_t subleaf, CpuidRegister reg, uint8_t bit);
// Leaves whose bits are feature flags (as opposed to counts and sizes): leaf, subleaf, register.
bool is_feature_register(uint32_t leaf, uint32_t subleaf, CpuidRegister reg);

}  // namespace kumoi::hypervisor
