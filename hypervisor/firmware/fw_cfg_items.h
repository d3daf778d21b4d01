// add_firmware_items(): everything that SeaBIOS and OVMF ask fw_cfg for, from the machine's
// configuration: processors, memory map, ACPI tables with the loader's commands, SMBIOS, boot
// order.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "hypervisor/board/acpi_tables.h"
#include "hypervisor/board/fw_cfg.h"
#include "hypervisor/firmware/firmware.h"
#include "hypervisor/firmware/smbios.h"

namespace kumoi::hypervisor {

struct FirmwareItems {
    FirmwareConfig firmware;
    uint32_t vcpus = 1;
    std::vector<MemoryRegion> ram;
    uint64_t memory_end = 0;  // firmware's own 64-bit PCI window starts behind it; 0: behind `ram`
    SmbiosConfig smbios;
    std::string uuid;                     // canonical text, or empty
    std::vector<std::string> boot_order;  // OpenFirmware paths, first to try first
    std::function<AcpiConfig()> acpi;     // asked whenever the firmware reads the tables
};

Result<void> add_firmware_items(FwCfg& fw_cfg, const FirmwareItems& items);

// The paths of this board's functions as "bootorder" names them.
std::string boot_path_disk(unsigned slot);
std::string boot_path_scsi(unsigned slot, unsigned function, unsigned target);
std::string boot_path_nic(unsigned slot);

}  // namespace kumoi::hypervisor
