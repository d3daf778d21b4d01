// Builds the ACPI tables of the board (ACPI 6.4 §5.2): RSDP, RSDT, XSDT, FADT, FACS, DSDT, MADT,
// MCFG, and where there are NUMA nodes or memory to come SRAT and SLIT.
//
// assemble_acpi() is pure: configuration in, one image out whose pointers count from its start,
// with a list of where pointers and checksums are. Direct boot places it itself:
// build_acpi_tables() gives bytes that begin with the RSDP, to be put at board::kAcpiStart.
// Firmware places it by the list, which hypervisor/firmware/table_loader turns into its commands.
// The platform is not "hardware reduced": PM1 blocks, PM timer, SCI and 8259s are there, because
// every OS knows that kind.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/board/board_layout.h"
#include "hypervisor/board/numa_tables.h"

namespace kumoi::hypervisor {

struct AcpiConfig {
    uint32_t vcpus = 1;
    uint64_t ram_end = 0;  // first address behind the highest RAM there is or may be
    uint64_t ecam_base = board::kEcamStart;
    uint32_t vcpus_max = 0;   // how many there may ever be; less than vcpus: no more than those
    bool keyboard = false;    // behind the 8042; without, nobody probes for one
    uint64_t mmio64_end = 0;  // where the 64-bit PCI window ends if beyond the board's own
    NumaLayout numa;
};

struct AcpiImage {
    enum class Part { Tables, Rsdp };
    // Holds an offset into `tables`, little endian; their address is to be added to it.
    struct Pointer {
        Part part;
        uint32_t offset;
        uint8_t size;  // 4 or 8
    };
    // The byte at `at` makes the sum of [start, start + length) zero; it is 0 until then.
    struct Checksum {
        Part part;
        uint32_t at;
        uint32_t start;
        uint32_t length;
    };
    std::string tables;  // to be aligned at kAlignment, below 4 GiB
    std::string rsdp;
    std::vector<Pointer> pointers;
    std::vector<Checksum> checksums;  // in the order in which they are to be made

    static constexpr uint32_t kAlignment = 64;  // §5.2.10: FACS
};

AcpiImage assemble_acpi(const AcpiConfig& config);
Result<std::string> build_acpi_tables(const AcpiConfig& config, uint64_t address);

}  // namespace kumoi::hypervisor
