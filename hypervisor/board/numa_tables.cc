#include "hypervisor/board/numa_tables.h"

namespace kumoi::hypervisor {

namespace {

struct [[gnu::packed]] SratHead {
    uint32_t reserved1 = 1;  // as the specification has it, for old readers
    uint64_t reserved2 = 0;
};
struct [[gnu::packed]] SratLocalApic {  // §5.2.16.1
    uint8_t type = 0, length = 16, node_low = 0, apic_id = 0;
    uint32_t flags = 1;
    uint8_t sapic_eid = 0, node_high[3] = {};
    uint32_t clock_domain = 0;
};
struct [[gnu::packed]] SratMemory {  // §5.2.16.2
    uint8_t type = 1, length = 40;
    uint32_t node = 0;
    uint16_t reserved = 0;
    uint64_t base = 0, size = 0;
    uint32_t reserved2 = 0;
    uint32_t flags = 0;
    uint64_t reserved3 = 0;
};
struct [[gnu::packed]] SratX2Apic {  // §5.2.16.3
    uint8_t type = 2, length = 24;
    uint16_t reserved = 0;
    uint32_t node = 0, apic_id = 0;
    uint32_t flags = 1;
    uint32_t clock_domain = 0;
    uint32_t reserved2 = 0;
};
static_assert(sizeof(SratLocalApic) == 16 && sizeof(SratMemory) == 40 && sizeof(SratX2Apic) == 24);

constexpr uint32_t kMemoryEnabled = 1u << 0;
constexpr uint32_t kMemoryHotplug = 1u << 1;
constexpr uint32_t kApicIdsMax = 255;

template <class T>
std::string bytes_of(const T& object) {
    return {reinterpret_cast<const char*>(&object), sizeof object};
}

std::string processor(uint32_t cpu, uint32_t node) {
    if (cpu >= kApicIdsMax) {
        SratX2Apic entry;
        entry.node = node;
        entry.apic_id = cpu;
        return bytes_of(entry);
    }
    SratLocalApic entry;
    entry.apic_id = static_cast<uint8_t>(cpu);
    entry.node_low = static_cast<uint8_t>(node);
    for (unsigned i = 0; i < 3; ++i) {
        entry.node_high[i] = static_cast<uint8_t>(node >> (8 * (i + 1)));
    }
    return bytes_of(entry);
}

}  // namespace

std::string srat_body(const NumaLayout& layout) {
    std::string body = bytes_of(SratHead{});
    for (uint32_t cpu = 0; cpu < layout.node_of_cpu.size(); ++cpu) {
        body += processor(cpu, layout.node_of_cpu[cpu]);
    }
    for (const NumaLayout::Range& range : layout.memory) {
        SratMemory entry;
        entry.node = range.node;
        entry.base = range.base;
        entry.size = range.size;
        entry.flags = kMemoryEnabled | (range.hotplug ? kMemoryHotplug : 0);
        body += bytes_of(entry);
    }
    return body;
}

std::string slit_body(const NumaLayout& layout) {
    std::string body = bytes_of(uint64_t{layout.distances.size()});
    for (const auto& row : layout.distances) {
        for (const uint32_t distance : row) {
            body += static_cast<char>(distance);
        }
    }
    return body;
}

}  // namespace kumoi::hypervisor
