#include "hypervisor/vcpu/cpu_features.h"

#include <algorithm>

#include "base/json.h"

namespace kumoi::hypervisor {

namespace {

constexpr CpuFeature kFeatures[] = {
    {"fpu", 0x1, 0, CpuidRegister::Edx, 0},
    {"vme", 0x1, 0, CpuidRegister::Edx, 1},
    {"de", 0x1, 0, CpuidRegister::Edx, 2},
    {"pse", 0x1, 0, CpuidRegister::Edx, 3},
    {"tsc", 0x1, 0, CpuidRegister::Edx, 4},
    {"msr", 0x1, 0, CpuidRegister::Edx, 5},
    {"pae", 0x1, 0, CpuidRegister::Edx, 6},
    {"mce", 0x1, 0, CpuidRegister::Edx, 7},
    {"cx8", 0x1, 0, CpuidRegister::Edx, 8},
    {"apic", 0x1, 0, CpuidRegister::Edx, 9},
    {"sep", 0x1, 0, CpuidRegister::Edx, 11},
    {"mtrr", 0x1, 0, CpuidRegister::Edx, 12},
    {"pge", 0x1, 0, CpuidRegister::Edx, 13},
    {"mca", 0x1, 0, CpuidRegister::Edx, 14},
    {"cmov", 0x1, 0, CpuidRegister::Edx, 15},
    {"pat", 0x1, 0, CpuidRegister::Edx, 16},
    {"pse36", 0x1, 0, CpuidRegister::Edx, 17},
    {"clflush", 0x1, 0, CpuidRegister::Edx, 19},
    {"ds", 0x1, 0, CpuidRegister::Edx, 21},
    {"acpi", 0x1, 0, CpuidRegister::Edx, 22},
    {"mmx", 0x1, 0, CpuidRegister::Edx, 23},
    {"fxsr", 0x1, 0, CpuidRegister::Edx, 24},
    {"sse", 0x1, 0, CpuidRegister::Edx, 25},
    {"sse2", 0x1, 0, CpuidRegister::Edx, 26},
    {"ss", 0x1, 0, CpuidRegister::Edx, 27},
    {"ht", 0x1, 0, CpuidRegister::Edx, 28},
    {"tm", 0x1, 0, CpuidRegister::Edx, 29},
    {"pbe", 0x1, 0, CpuidRegister::Edx, 31},
    {"sse3", 0x1, 0, CpuidRegister::Ecx, 0},
    {"pclmulqdq", 0x1, 0, CpuidRegister::Ecx, 1},
    {"dtes64", 0x1, 0, CpuidRegister::Ecx, 2},
    {"monitor", 0x1, 0, CpuidRegister::Ecx, 3},
    {"ds-cpl", 0x1, 0, CpuidRegister::Ecx, 4},
    {"vmx", 0x1, 0, CpuidRegister::Ecx, 5},
    {"smx", 0x1, 0, CpuidRegister::Ecx, 6},
    {"est", 0x1, 0, CpuidRegister::Ecx, 7},
    {"tm2", 0x1, 0, CpuidRegister::Ecx, 8},
    {"ssse3", 0x1, 0, CpuidRegister::Ecx, 9},
    {"fma", 0x1, 0, CpuidRegister::Ecx, 12},
    {"cx16", 0x1, 0, CpuidRegister::Ecx, 13},
    {"xtpr", 0x1, 0, CpuidRegister::Ecx, 14},
    {"pdcm", 0x1, 0, CpuidRegister::Ecx, 15},
    {"pcid", 0x1, 0, CpuidRegister::Ecx, 17},
    {"dca", 0x1, 0, CpuidRegister::Ecx, 18},
    {"sse4-1", 0x1, 0, CpuidRegister::Ecx, 19},
    {"sse4-2", 0x1, 0, CpuidRegister::Ecx, 20},
    {"x2apic", 0x1, 0, CpuidRegister::Ecx, 21},
    {"movbe", 0x1, 0, CpuidRegister::Ecx, 22},
    {"popcnt", 0x1, 0, CpuidRegister::Ecx, 23},
    {"tsc-deadline", 0x1, 0, CpuidRegister::Ecx, 24},
    {"aes", 0x1, 0, CpuidRegister::Ecx, 25},
    {"xsave", 0x1, 0, CpuidRegister::Ecx, 26},
    {"osxsave", 0x1, 0, CpuidRegister::Ecx, 27},
    {"avx", 0x1, 0, CpuidRegister::Ecx, 28},
    {"f16c", 0x1, 0, CpuidRegister::Ecx, 29},
    {"rdrand", 0x1, 0, CpuidRegister::Ecx, 30},
    {"hypervisor", 0x1, 0, CpuidRegister::Ecx, 31},
    {"fsgsbase", 0x7, 0, CpuidRegister::Ebx, 0},
    {"tsc-adjust", 0x7, 0, CpuidRegister::Ebx, 1},
    {"sgx", 0x7, 0, CpuidRegister::Ebx, 2},
    {"bmi1", 0x7, 0, CpuidRegister::Ebx, 3},
    {"hle", 0x7, 0, CpuidRegister::Ebx, 4},
    {"avx2", 0x7, 0, CpuidRegister::Ebx, 5},
    {"smep", 0x7, 0, CpuidRegister::Ebx, 7},
    {"bmi2", 0x7, 0, CpuidRegister::Ebx, 8},
    {"erms", 0x7, 0, CpuidRegister::Ebx, 9},
    {"invpcid", 0x7, 0, CpuidRegister::Ebx, 10},
    {"rtm", 0x7, 0, CpuidRegister::Ebx, 11},
    {"mpx", 0x7, 0, CpuidRegister::Ebx, 14},
    {"rdt-a", 0x7, 0, CpuidRegister::Ebx, 15},
    {"avx512f", 0x7, 0, CpuidRegister::Ebx, 16},
    {"avx512dq", 0x7, 0, CpuidRegister::Ebx, 17},
    {"rdseed", 0x7, 0, CpuidRegister::Ebx, 18},
    {"adx", 0x7, 0, CpuidRegister::Ebx, 19},
    {"smap", 0x7, 0, CpuidRegister::Ebx, 20},
    {"avx512ifma", 0x7, 0, CpuidRegister::Ebx, 21},
    {"clflushopt", 0x7, 0, CpuidRegister::Ebx, 23},
    {"clwb", 0x7, 0, CpuidRegister::Ebx, 24},
    {"intel-pt", 0x7, 0, CpuidRegister::Ebx, 25},
    {"avx512cd", 0x7, 0, CpuidRegister::Ebx, 28},
    {"sha-ni", 0x7, 0, CpuidRegister::Ebx, 29},
    {"avx512bw", 0x7, 0, CpuidRegister::Ebx, 30},
    {"avx512vl", 0x7, 0, CpuidRegister::Ebx, 31},
    {"avx512vbmi", 0x7, 0, CpuidRegister::Ecx, 1},
    {"umip", 0x7, 0, CpuidRegister::Ecx, 2},
    {"pku", 0x7, 0, CpuidRegister::Ecx, 3},
    {"ospke", 0x7, 0, CpuidRegister::Ecx, 4},
    {"waitpkg", 0x7, 0, CpuidRegister::Ecx, 5},
    {"avx512vbmi2", 0x7, 0, CpuidRegister::Ecx, 6},
    {"shstk", 0x7, 0, CpuidRegister::Ecx, 7},
    {"gfni", 0x7, 0, CpuidRegister::Ecx, 8},
    {"vaes", 0x7, 0, CpuidRegister::Ecx, 9},
    {"vpclmulqdq", 0x7, 0, CpuidRegister::Ecx, 10},
    {"avx512vnni", 0x7, 0, CpuidRegister::Ecx, 11},
    {"avx512bitalg", 0x7, 0, CpuidRegister::Ecx, 12},
    {"avx512-vpopcntdq", 0x7, 0, CpuidRegister::Ecx, 14},
    {"la57", 0x7, 0, CpuidRegister::Ecx, 16},
    {"rdpid", 0x7, 0, CpuidRegister::Ecx, 22},
    {"bus-lock-detect", 0x7, 0, CpuidRegister::Ecx, 24},
    {"cldemote", 0x7, 0, CpuidRegister::Ecx, 25},
    {"movdiri", 0x7, 0, CpuidRegister::Ecx, 27},
    {"movdir64b", 0x7, 0, CpuidRegister::Ecx, 28},
    {"enqcmd", 0x7, 0, CpuidRegister::Ecx, 29},
    {"avx512-4vnniw", 0x7, 0, CpuidRegister::Edx, 2},
    {"avx512-4fmaps", 0x7, 0, CpuidRegister::Edx, 3},
    {"fsrm", 0x7, 0, CpuidRegister::Edx, 4},
    {"uintr", 0x7, 0, CpuidRegister::Edx, 5},
    {"avx512-vp2intersect", 0x7, 0, CpuidRegister::Edx, 8},
    {"md-clear", 0x7, 0, CpuidRegister::Edx, 10},
    {"serialize", 0x7, 0, CpuidRegister::Edx, 14},
    {"tsxldtrk", 0x7, 0, CpuidRegister::Edx, 16},
    {"ibt", 0x7, 0, CpuidRegister::Edx, 20},
    {"amx-bf16", 0x7, 0, CpuidRegister::Edx, 22},
    {"avx512-fp16", 0x7, 0, CpuidRegister::Edx, 23},
    {"amx-tile", 0x7, 0, CpuidRegister::Edx, 24},
    {"amx-int8", 0x7, 0, CpuidRegister::Edx, 25},
    {"spec-ctrl", 0x7, 0, CpuidRegister::Edx, 26},
    {"stibp", 0x7, 0, CpuidRegister::Edx, 27},
    {"flush-l1d", 0x7, 0, CpuidRegister::Edx, 28},
    {"arch-capabilities", 0x7, 0, CpuidRegister::Edx, 29},
    {"core-capability", 0x7, 0, CpuidRegister::Edx, 30},
    {"ssbd", 0x7, 0, CpuidRegister::Edx, 31},
    {"sha512", 0x7, 1, CpuidRegister::Eax, 0},
    {"sm3", 0x7, 1, CpuidRegister::Eax, 1},
    {"sm4", 0x7, 1, CpuidRegister::Eax, 2},
    {"avx-vnni", 0x7, 1, CpuidRegister::Eax, 4},
    {"avx512-bf16", 0x7, 1, CpuidRegister::Eax, 5},
    {"cmpccxadd", 0x7, 1, CpuidRegister::Eax, 7},
    {"fzrm", 0x7, 1, CpuidRegister::Eax, 10},
    {"fsrs", 0x7, 1, CpuidRegister::Eax, 11},
    {"fsrc", 0x7, 1, CpuidRegister::Eax, 12},
    {"amx-fp16", 0x7, 1, CpuidRegister::Eax, 21},
    {"avx-ifma", 0x7, 1, CpuidRegister::Eax, 23},
    {"arat", 0x6, 0, CpuidRegister::Eax, 2},
    {"xsaveopt", 0xd, 1, CpuidRegister::Eax, 0},
    {"xsavec", 0xd, 1, CpuidRegister::Eax, 1},
    {"xgetbv1", 0xd, 1, CpuidRegister::Eax, 2},
    {"xsaves", 0xd, 1, CpuidRegister::Eax, 3},
    {"syscall", 0x8000'0001, 0, CpuidRegister::Edx, 11},
    {"nx", 0x8000'0001, 0, CpuidRegister::Edx, 20},
    {"mmxext", 0x8000'0001, 0, CpuidRegister::Edx, 22},
    {"fxsr-opt", 0x8000'0001, 0, CpuidRegister::Edx, 25},
    {"pdpe1gb", 0x8000'0001, 0, CpuidRegister::Edx, 26},
    {"rdtscp", 0x8000'0001, 0, CpuidRegister::Edx, 27},
    {"lm", 0x8000'0001, 0, CpuidRegister::Edx, 29},
    {"3dnowext", 0x8000'0001, 0, CpuidRegister::Edx, 30},
    {"3dnow", 0x8000'0001, 0, CpuidRegister::Edx, 31},
    {"lahf-lm", 0x8000'0001, 0, CpuidRegister::Ecx, 0},
    {"cmp-legacy", 0x8000'0001, 0, CpuidRegister::Ecx, 1},
    {"svm", 0x8000'0001, 0, CpuidRegister::Ecx, 2},
    {"extapic", 0x8000'0001, 0, CpuidRegister::Ecx, 3},
    {"cr8legacy", 0x8000'0001, 0, CpuidRegister::Ecx, 4},
    {"abm", 0x8000'0001, 0, CpuidRegister::Ecx, 5},
    {"sse4a", 0x8000'0001, 0, CpuidRegister::Ecx, 6},
    {"misalignsse", 0x8000'0001, 0, CpuidRegister::Ecx, 7},
    {"3dnowprefetch", 0x8000'0001, 0, CpuidRegister::Ecx, 8},
    {"osvw", 0x8000'0001, 0, CpuidRegister::Ecx, 9},
    {"ibs", 0x8000'0001, 0, CpuidRegister::Ecx, 10},
    {"xop", 0x8000'0001, 0, CpuidRegister::Ecx, 11},
    {"skinit", 0x8000'0001, 0, CpuidRegister::Ecx, 12},
    {"wdt", 0x8000'0001, 0, CpuidRegister::Ecx, 13},
    {"lwp", 0x8000'0001, 0, CpuidRegister::Ecx, 15},
    {"fma4", 0x8000'0001, 0, CpuidRegister::Ecx, 16},
    {"tce", 0x8000'0001, 0, CpuidRegister::Ecx, 17},
    {"tbm", 0x8000'0001, 0, CpuidRegister::Ecx, 21},
    {"topoext", 0x8000'0001, 0, CpuidRegister::Ecx, 22},
    {"perfctr-core", 0x8000'0001, 0, CpuidRegister::Ecx, 23},
    {"perfctr-nb", 0x8000'0001, 0, CpuidRegister::Ecx, 24},
    {"invtsc", 0x8000'0007, 0, CpuidRegister::Edx, 8},
    {"clzero", 0x8000'0008, 0, CpuidRegister::Ebx, 0},
    {"xsaveerptr", 0x8000'0008, 0, CpuidRegister::Ebx, 2},
    {"wbnoinvd", 0x8000'0008, 0, CpuidRegister::Ebx, 9},
    {"ibpb", 0x8000'0008, 0, CpuidRegister::Ebx, 12},
    {"amd-stibp", 0x8000'0008, 0, CpuidRegister::Ebx, 15},
    {"amd-ssbd", 0x8000'0008, 0, CpuidRegister::Ebx, 24},
    {"virt-ssbd", 0x8000'0008, 0, CpuidRegister::Ebx, 25},
    {"kvm-clock-old", 0x4000'0001, 0, CpuidRegister::Eax, 0},
    {"kvm-nop-io-delay", 0x4000'0001, 0, CpuidRegister::Eax, 1},
    {"kvm-mmu-op", 0x4000'0001, 0, CpuidRegister::Eax, 2},
    {"kvm-clock", 0x4000'0001, 0, CpuidRegister::Eax, 3},
    {"kvm-async-pf", 0x4000'0001, 0, CpuidRegister::Eax, 4},
    {"kvm-steal-time", 0x4000'0001, 0, CpuidRegister::Eax, 5},
    {"kvm-pv-eoi", 0x4000'0001, 0, CpuidRegister::Eax, 6},
    {"kvm-pv-unhalt", 0x4000'0001, 0, CpuidRegister::Eax, 7},
    {"kvm-pv-tlb-flush", 0x4000'0001, 0, CpuidRegister::Eax, 9},
    {"kvm-async-pf-vmexit", 0x4000'0001, 0, CpuidRegister::Eax, 10},
    {"kvm-pv-ipi", 0x4000'0001, 0, CpuidRegister::Eax, 11},
    {"kvm-poll-control", 0x4000'0001, 0, CpuidRegister::Eax, 12},
    {"kvm-pv-sched-yield", 0x4000'0001, 0, CpuidRegister::Eax, 13},
    {"kvm-async-pf-int", 0x4000'0001, 0, CpuidRegister::Eax, 14},
    {"kvm-msi-ext-dest-id", 0x4000'0001, 0, CpuidRegister::Eax, 15},
    {"kvm-hc-map-gpa-range", 0x4000'0001, 0, CpuidRegister::Eax, 16},
    {"kvm-migration-control", 0x4000'0001, 0, CpuidRegister::Eax, 17},
    {"kvm-clock-stable", 0x4000'0001, 0, CpuidRegister::Eax, 24},
};

}  // namespace

std::span<const CpuFeature> cpu_features() {
    return kFeatures;
}

Result<const CpuFeature*> find_cpu_feature(std::string_view name) {
    const auto* found = std::ranges::find(kFeatures, name, &CpuFeature::name);
    if (found != std::end(kFeatures)) {
        return found;
    }
    std::vector<std::string> names;
    for (const CpuFeature& feature : kFeatures) {
        names.emplace_back(feature.name);
    }
    Error error = Error::invalid("there is no CPU feature called \"{}\"", name);
    if (const auto near = nearest_name(name, names)) {
        return std::move(error).with_hint(fmt::format("did you mean \"{}\"?", *near));
    }
    return error;
}

std::string cpu_feature_name(uint32_t leaf, uint32_t subleaf, CpuidRegister reg, uint8_t bit) {
    for (const CpuFeature& feature : kFeatures) {
        if (feature.leaf == leaf && feature.subleaf == subleaf && feature.reg == reg &&
            feature.bit == bit) {
            return std::string(feature.name);
        }
    }
    constexpr const char* kRegisters[] = {"eax", "ebx", "ecx", "edx"};
    return fmt::format("cpuid({:#x},{}).{}[{}]", leaf, subleaf,
                       kRegisters[static_cast<size_t>(reg)], bit);
}

bool is_feature_register(uint32_t leaf, uint32_t subleaf, CpuidRegister reg) {
    return std::ranges::any_of(kFeatures, [&](const CpuFeature& feature) {
        return feature.leaf == leaf && feature.subleaf == subleaf && feature.reg == reg;
    });
}

}  // namespace kumoi::hypervisor
