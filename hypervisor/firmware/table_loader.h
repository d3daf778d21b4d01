// table_loader(): the commands by which SeaBIOS and OVMF put our ACPI tables into memory (fw_cfg
// file "etc/table-loader"; QEMU's docs/specs/acpi_hw_reduced and SeaBIOS's src/fw/romfile_loader.h
// say what they look like): allocate the files, add addresses to pointers, make checksums. Pure.
#pragma once

#include <string>

#include "hypervisor/board/acpi_tables.h"

namespace kumoi::hypervisor {

constexpr const char* kAcpiTablesFile = "etc/acpi/tables";
constexpr const char* kAcpiRsdpFile = "etc/acpi/rsdp";
constexpr const char* kTableLoaderFile = "etc/table-loader";

std::string table_loader(const AcpiImage& image);

}  // namespace kumoi::hypervisor
