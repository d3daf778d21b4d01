// The machine's description in AML: PCI root bridge with windows and interrupt routing, serial
// port, clock, reserved ranges, and the S5 sleep type.
#pragma once

#include <cstdint>
#include <string>

namespace kumoi::hypervisor {

// The definition block's body, without the table header. The 64-bit PCI window is the board's own,
// or reaches up to `mmio64_end` where firmware put BARs beyond it.
std::string dsdt_body(uint64_t ram_end, uint64_t ecam_base, uint64_t mmio64_end);

}  // namespace kumoi::hypervisor
