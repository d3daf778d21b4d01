#include "hypervisor/vcpu/cpu_model.h"

#include <algorithm>
#include <array>
#include <bit>

#include <fmt/ranges.h>

#include "base/json.h"
#include "hypervisor/vcpu/cpu_features.h"

namespace kumoi::hypervisor {

namespace {

constexpr std::string_view kHost = "host";
constexpr std::string_view kKumoiV1 = "kumoi-v1";

// x86-64 psABI level 2, and what a PC kernel expects around it.
constexpr std::string_view kKumoiV1Required[] = {
    "fpu",    "de",     "pse",        "tsc",     "msr",   "pae",    "cx8",     "apic",
    "sep",    "mtrr",   "pge",        "cmov",    "pat",   "pse36",  "mmx",     "clflush",
    "fxsr",   "sse",    "sse2",       "sse3",    "ssse3", "sse4-1", "sse4-2",  "cx16",
    "popcnt", "x2apic", "hypervisor", "syscall", "nx",    "lm",     "lahf-lm",
};
// Shown when the host has them: emulated by KVM or the same everywhere.
constexpr std::string_view kKumoiV1Optional[] = {
    "vme",
    "mce",
    "mca",
    "ht",
    "tsc-deadline",
    "arat",
    "kvm-clock",
    "kvm-clock-old",
    "kvm-nop-io-delay",
    "kvm-clock-stable",
    "kvm-msi-ext-dest-id",
};
constexpr uint32_t kKumoiV1BasicMax = 0xb;
constexpr uint32_t kKumoiV1ExtendedMax = 0x8000'0008;

// These work by vmcall; where that does not reach KVM the guest would hang using them. Async page
// faults and steal time write host-paced data and are hidden with them, as the same hosts cannot
// deliver their interrupts.
constexpr std::string_view kHypercallFeatures[] = {
    "kvm-pv-unhalt",        "kvm-pv-tlb-flush",      "kvm-pv-ipi",       "kvm-pv-sched-yield",
    "kvm-async-pf",         "kvm-async-pf-vmexit",   "kvm-async-pf-int", "kvm-steal-time",
    "kvm-hc-map-gpa-range", "kvm-migration-control",
};

constexpr CpuidRegister kRegisters[] = {CpuidRegister::Eax, CpuidRegister::Ebx, CpuidRegister::Ecx,
                                        CpuidRegister::Edx};

uint32_t& register_of(kvm_cpuid_entry2& entry, CpuidRegister reg) {
    switch (reg) {
        case CpuidRegister::Eax: return entry.eax;
        case CpuidRegister::Ebx: return entry.ebx;
        case CpuidRegister::Ecx: return entry.ecx;
        default: return entry.edx;
    }
}

uint32_t register_value(const kvm_cpuid_entry2& entry, CpuidRegister reg) {
    kvm_cpuid_entry2 copy = entry;
    return register_of(copy, reg);
}

bool has_index(uint32_t leaf) {
    return leaf == 0x4 || leaf == 0x7 || leaf == 0xb || leaf == 0xd || leaf == 0x14 ||
           leaf == 0x1f || leaf == 0x8000'001d;
}

kvm_cpuid_entry2* find_entry(CpuidTable& table, uint32_t leaf, uint32_t subleaf) {
    const auto found = std::ranges::find_if(table, [&](const kvm_cpuid_entry2& entry) {
        return entry.function == leaf && (!has_index(leaf) || entry.index == subleaf);
    });
    return found == table.end() ? nullptr : &*found;
}

const kvm_cpuid_entry2* find_entry(const CpuidTable& table, uint32_t leaf, uint32_t subleaf) {
    return find_entry(const_cast<CpuidTable&>(table), leaf, subleaf);
}

bool has_feature(const CpuidTable& table, const CpuFeature& feature) {
    const kvm_cpuid_entry2* entry = find_entry(table, feature.leaf, feature.subleaf);
    return entry != nullptr && (register_value(*entry, feature.reg) >> feature.bit & 1) != 0;
}

void set_feature(CpuidTable& table, const CpuFeature& feature, bool on) {
    kvm_cpuid_entry2* entry = find_entry(table, feature.leaf, feature.subleaf);
    if (entry == nullptr) {
        return;
    }
    uint32_t& value = register_of(*entry, feature.reg);
    const uint32_t bit = 1u << feature.bit;
    value = on ? value | bit : value & ~bit;
}

// Our names only: a typo in this file is our bug.
const CpuFeature& known(std::string_view name) {
    const auto feature = find_cpu_feature(name);
    KUMOI_ASSERT(feature.ok());
    return **feature;
}

// KVM emulates these whatever the processor has; older kernels do not list them.
void add_emulated(CpuidTable& table) {
    for (const std::string_view name : {"x2apic", "tsc-deadline", "hypervisor"}) {
        set_feature(table, known(name), true);
    }
}

Result<CpuidTable> apply_kumoi_v1(const CpuidTable& host) {
    std::vector<std::string_view> missing;
    for (const std::string_view name : kKumoiV1Required) {
        if (!has_feature(host, known(name))) {
            missing.push_back(name);
        }
    }
    if (!missing.empty()) {
        return Error::unsupported(
                   "CPU model kumoi-v1 needs {}, which KVM on this host does not offer",
                   fmt::join(missing, ", "))
            .with_hint("use cpu.model \"host\"");
    }
    CpuidTable table;
    for (kvm_cpuid_entry2 entry : host) {
        const uint32_t leaf = entry.function;
        const bool basic = leaf <= kKumoiV1BasicMax;
        const bool extended = leaf >= 0x8000'0000 && leaf <= kKumoiV1ExtendedMax;
        const bool paravirtual = leaf >= 0x4000'0000 && leaf < 0x5000'0000;
        if (!basic && !extended && !paravirtual) {
            continue;
        }
        if (leaf == 0 || leaf == 0x8000'0000) {
            entry.eax = std::min(entry.eax, leaf == 0 ? kKumoiV1BasicMax : kKumoiV1ExtendedMax);
        }
        if (leaf == 0x5 || leaf == 0x6 || leaf == 0x9 || leaf == 0xa) {
            entry.eax = entry.ebx = entry.ecx = entry.edx =
                0;  // mwait, thermal, performance counters
        }
        for (const CpuidRegister reg : kRegisters) {
            if (is_feature_register(leaf, entry.index, reg)) {
                register_of(entry, reg) = 0;
            }
        }
        table.push_back(entry);
    }
    for (const std::string_view name : kKumoiV1Required) {
        set_feature(table, known(name), true);
    }
    for (const std::string_view name : kKumoiV1Optional) {
        set_feature(table, known(name), has_feature(host, known(name)));
    }
    return table;
}

uint32_t id_bits(uint32_t count) {
    return static_cast<uint32_t>(std::bit_width(count - 1));
}

// Intel SDM CPUID leaf 0Bh: threads per core, then cores per package.
void add_topology_leaf(CpuidTable& table, uint32_t index, uint32_t count) {
    std::erase_if(
        table, [](const kvm_cpuid_entry2& e) { return e.function == 0xb || e.function == 0x1f; });
    const kvm_cpuid_entry2* basic = find_entry(table, 0, 0);
    if (basic == nullptr || basic->eax < 0xb) {
        return;
    }
    constexpr uint32_t kSmt = 1u << 8;
    constexpr uint32_t kCore = 2u << 8;
    const auto entry = [&](uint32_t subleaf, uint32_t shift, uint32_t threads, uint32_t kind) {
        kvm_cpuid_entry2 leaf{};
        leaf.function = 0xb;
        leaf.index = subleaf;
        leaf.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        leaf.eax = shift;
        leaf.ebx = threads;
        leaf.ecx = subleaf | kind;
        leaf.edx = index;
        table.push_back(leaf);
    };
    entry(0, 0, 1, kSmt);
    entry(1, id_bits(count), count, kCore);
    entry(2, 0, 0, 0);
}

// Deterministic cache parameters (leaf 4, and 8000001Dh on AMD): levels 1 and 2 belong to one core,
// level 3 to the package.
void set_cache_sharing(kvm_cpuid_entry2& entry, uint32_t count, bool core_field) {
    constexpr uint32_t kSharingMask = 0xfffu << 14;
    constexpr uint32_t kCoresMask = 0x3fu << 26;
    const uint32_t type = entry.eax & 0x1f;
    const uint32_t level = entry.eax >> 5 & 0x7;
    if (type == 0) {
        return;
    }
    const uint32_t ids = (1u << id_bits(count)) - 1;
    entry.eax &= ~kSharingMask;
    if (level >= 3) {
        entry.eax |= std::min(ids, 0xfffu) << 14;
    }
    if (core_field) {
        entry.eax = (entry.eax & ~kCoresMask) | std::min(ids, 0x3fu) << 26;
    }
}

void set_identity(kvm_cpuid_entry2& entry, uint32_t index, uint32_t count) {
    constexpr uint32_t kHyperThreading = 1u << 28;
    switch (entry.function) {
        case 0x1:
            entry.ebx = (entry.ebx & 0x0000'ffff) | (std::min(count, 255u) << 16) | (index << 24);
            entry.edx = count > 1 ? entry.edx | kHyperThreading : entry.edx & ~kHyperThreading;
            break;
        case 0x4: set_cache_sharing(entry, count, true); break;
        case 0x8000'001d: set_cache_sharing(entry, count, false); break;
        case 0x8000'0008:  // AMD: cores minus one, and how many id bits they take
            entry.ecx =
                (entry.ecx & 0xffff'0000) | std::min(count - 1, 255u) | id_bits(count) << 12;
            break;
        case 0x8000'001e:  // AMD: extended APIC id, one thread per core, node 0
            entry.eax = index;
            entry.ebx = index & 0xff;
            entry.ecx = 0;
            break;
        default: break;
    }
}

}  // namespace

std::vector<std::string> cpu_model_names() {
    return {std::string(kHost), std::string(kKumoiV1)};
}

Result<void> check_cpu_selection(const CpuSelection& selection) {
    if (selection.model != kHost && selection.model != kKumoiV1) {
        Error error = Error::invalid("there is no CPU model called \"{}\"", selection.model);
        return std::move(error).with_hint(
            fmt::format("the models are {}", fmt::join(cpu_model_names(), ", ")));
    }
    for (const auto* names : {&selection.add, &selection.mask}) {
        for (const std::string& name : *names) {
            TRY(find_cpu_feature(name));
        }
    }
    for (const std::string& name : selection.add) {
        if (std::ranges::find(selection.mask, name) != selection.mask.end()) {
            return Error::invalid("CPU feature \"{}\" is both added and masked", name);
        }
    }
    return {};
}

Result<CpuidTable> build_cpuid(const CpuidTable& supported, const CpuSelection& selection,
                               const CpuHost& host) {
    TRY(check_cpu_selection(selection));
    CpuidTable offered = supported;
    add_emulated(offered);
    if (!host.hypercalls_work) {
        for (const std::string_view name : kHypercallFeatures) {
            set_feature(offered, known(name), false);
        }
    }
    CpuidTable table = selection.model == kHost ? offered : TRY(apply_kumoi_v1(offered));
    std::vector<std::string> missing;
    for (const std::string& name : selection.add) {
        const CpuFeature& feature = known(name);
        if (!has_feature(offered, feature)) {
            missing.push_back(name);
        }
        set_feature(table, feature, true);
    }
    if (!missing.empty()) {
        return Error::unsupported("KVM on this host does not offer the CPU features {}",
                                  fmt::join(missing, ", "))
            .with_hint("take them out of cpu.add");
    }
    for (const std::string& name : selection.mask) {
        set_feature(table, known(name), false);
    }
    return table;
}

CpuidTable cpuid_for_vcpu(const CpuidTable& table, uint32_t index, uint32_t count) {
    KUMOI_ASSERT(index < count);
    CpuidTable mine = table;
    add_topology_leaf(mine, index, count);
    for (kvm_cpuid_entry2& entry : mine) {
        set_identity(entry, index, count);
    }
    return mine;
}

std::vector<std::string> unmasked_features(const CpuidTable& asked, const CpuidTable& actual) {
    // The processor itself shows whether the guest turned these on; they follow CR4.
    constexpr std::string_view kFollowCr4[] = {"osxsave", "ospke"};
    std::vector<std::string> names;
    for (const kvm_cpuid_entry2& entry : actual) {
        const kvm_cpuid_entry2* wanted = find_entry(asked, entry.function, entry.index);
        for (const CpuidRegister reg : kRegisters) {
            if (!is_feature_register(entry.function, entry.index, reg)) {
                continue;
            }
            const uint32_t before = wanted == nullptr ? 0 : register_value(*wanted, reg);
            const uint32_t extra = register_value(entry, reg) & ~before;
            for (uint8_t bit = 0; bit < 32; ++bit) {
                const std::string name = cpu_feature_name(entry.function, entry.index, reg, bit);
                if ((extra >> bit & 1) != 0 &&
                    std::ranges::find(kFollowCr4, name) == std::end(kFollowCr4)) {
                    names.push_back(name);
                }
            }
        }
    }
    return names;
}

}  // namespace kumoi::hypervisor
