// SRAT and SLIT (ACPI 6.4 §5.2.16, §5.2.17): which memory and processors are near each other, and
// which addresses memory may be plugged into later. Pure functions over plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kumoi::hypervisor {

struct NumaLayout {
    struct Range {
        uint64_t base = 0;
        uint64_t size = 0;
        uint32_t node = 0;
        bool hotplug = false;
    };
    uint32_t nodes = 0;  // 0: nothing is said of NUMA, no tables
    std::vector<Range> memory;
    std::vector<uint32_t> node_of_cpu;             // by APIC id
    std::vector<std::vector<uint32_t>> distances;  // empty: no SLIT
};

// The tables' bodies, without their headers.
std::string srat_body(const NumaLayout& layout);
std::string slit_body(const NumaLayout& layout);

}  // namespace kumoi::hypervisor
