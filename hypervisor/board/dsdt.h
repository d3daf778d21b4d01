// The machine's description in AML: PCI root bridge with windows and interrupt routing, serial
// port, clock, reserved ranges, and the S5 sleep type.
#pragma once

#include <cstdint>
#include <string>

namespace kumoi::hypervisor {

// The definition block's body, without the table header.
std::string dsdt_body(uint64_t ram_end);

}  // namespace kumoi::hypervisor
