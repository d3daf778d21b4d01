#include "hypervisor/vcpu/cpu_topology.h"

#include <algorithm>
#include <bit>

namespace kumoi::hypervisor {

namespace {

uint32_t bits_for(uint32_t count) {
    return static_cast<uint32_t>(std::bit_width(count - 1));
}

// Intel SDM 2A, leaf 4 (and AMD's 8000001D): who shares a cache, and cores of the package.
void set_cache(kvm_cpuid_entry2& entry, uint32_t thread_bits, uint32_t package_bits, bool cores) {
    constexpr uint32_t kSharing = 0xfffu << 14;
    constexpr uint32_t kCores = 0x3fu << 26;
    const uint32_t type = entry.eax & 0x1f;
    const uint32_t level = entry.eax >> 5 & 0x7;
    if (type == 0) {
        return;
    }
    const uint32_t sharing_ids = (1u << (level >= 3 ? package_bits : thread_bits)) - 1;
    entry.eax = (entry.eax & ~kSharing) | std::min(sharing_ids, 0xfffu) << 14;
    if (cores) {
        const uint32_t core_ids = (1u << (package_bits - thread_bits)) - 1;
        entry.eax = (entry.eax & ~kCores) | std::min(core_ids, 0x3fu) << 26;
    }
}

// Leaves 0Bh and 1Fh: a level a subleaf, each with the id bits below the next.
void set_levels(kvm_cpuid_entry2& entry, const CpuTopology& topology, uint32_t index) {
    constexpr uint32_t kThreadLevel = 1u << 8;
    constexpr uint32_t kCoreLevel = 2u << 8;
    const uint32_t thread_bits = bits_for(topology.threads);
    entry.edx = index;
    entry.eax = entry.ebx = 0;
    entry.ecx = entry.index;
    if (entry.index == 0) {
        entry.eax = thread_bits;
        entry.ebx = topology.threads;
        entry.ecx |= kThreadLevel;
    } else if (entry.index == 1) {
        entry.eax = thread_bits + bits_for(topology.cores);
        entry.ebx = topology.threads * topology.cores;
        entry.ecx |= kCoreLevel;
    }
}

}  // namespace

Result<void> check_topology(const CpuTopology& topology) {
    if (topology.sockets == 0) {
        return {};
    }
    if (!std::has_single_bit(topology.threads)) {
        return Error::unsupported("{} threads of a core are no power of two", topology.threads);
    }
    if (topology.sockets > 1 && !std::has_single_bit(topology.cores)) {
        return Error::unsupported("{} cores in each of {} sockets are no power of two",
                                  topology.cores, topology.sockets)
            .with_hint("use one socket, or a power of two");
    }
    return {};
}

void apply_topology(CpuidTable& table, const CpuTopology& topology, uint32_t index) {
    if (topology.sockets == 0) {
        return;
    }
    const uint32_t package = topology.cores * topology.threads;
    const uint32_t thread_bits = bits_for(topology.threads);
    const uint32_t package_bits = thread_bits + bits_for(topology.cores);
    constexpr uint32_t kHyperThreading = 1u << 28;
    for (kvm_cpuid_entry2& entry : table) {
        switch (entry.function) {
            case 0x1:
                entry.ebx = (entry.ebx & 0xff00'ffff) | std::min(package, 255u) << 16;
                entry.edx =
                    package > 1 ? entry.edx | kHyperThreading : entry.edx & ~kHyperThreading;
                break;
            case 0x4: set_cache(entry, thread_bits, package_bits, true); break;
            case 0x8000'001d: set_cache(entry, thread_bits, package_bits, false); break;
            case 0xb:
            case 0x1f: set_levels(entry, topology, index); break;
            case 0x8000'0008:
                entry.ecx =
                    (entry.ecx & 0xffff'0000) | std::min(package - 1, 255u) | package_bits << 12;
                break;
            case 0x8000'001e:
                entry.ebx = (index >> thread_bits & 0xff) | (topology.threads - 1) << 8;
                break;
            default: break;
        }
    }
}

}  // namespace kumoi::hypervisor
