// The machine's description in AML: PCI root bridge with windows and interrupt routing, serial
// port, clock, reserved ranges, and the S5 sleep type.
#pragma once

#include <cstdint>
#include <string>

namespace kumoi::hypervisor {

struct DsdtConfig {
    uint64_t ram_end = 0;  // first address behind memory, plugged later or not
    uint64_t ecam_base = 0;
    uint64_t mmio64_end = 0;  // where firmware put BARs beyond the board's 64-bit PCI window, or 0
    uint32_t vcpus = 1;
    uint32_t vcpus_max = 0;
    bool keyboard = false;
};

// The definition block's body, without the table header.
std::string dsdt_body(const DsdtConfig& config);

}  // namespace kumoi::hypervisor
