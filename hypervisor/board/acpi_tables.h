// Builds the ACPI tables of the board (ACPI 6.4 §5.2): RSDP, XSDT, FADT, FACS, DSDT, MADT, MCFG.
//
// build_acpi_tables() is pure: configuration in, one image out that begins with the RSDP and is to
// be put at board::kAcpiStart. The platform is not "hardware reduced": PM1 blocks, PM timer, SCI
// and 8259s are there, because every OS knows that kind of machine.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace kumoi::hypervisor {

struct AcpiConfig {
    uint32_t vcpus = 1;
    uint64_t ram_end = 0;  // first address behind the highest RAM
};

Result<std::string> build_acpi_tables(const AcpiConfig& config, uint64_t address);

}  // namespace kumoi::hypervisor
