// SMBIOS tables of a machine (DMTF DSP0134, version 2.8): who made it, its UUID, processors,
// memory.
//
// build_smbios() is pure. Direct boot puts entry point and structures at board::kSmbiosStart, where
// kernels look; firmware gets them as fw_cfg files and places them itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace kumoi::hypervisor {

struct SmbiosConfig {
    std::string manufacturer = "kumoi";  // type 1; cloud-init looks at product
    std::string product = "kumoi-1";
    std::string version;
    std::string serial;
    std::string sku;
    std::string family;
    std::vector<std::string> oem_strings;  // type 11
    std::string uuid;                      // canonical text, or empty: not known
    uint64_t memory_bytes = 0;
    uint64_t low_memory_bytes = 0;  // of it below 4 GiB
    uint32_t vcpus = 1;
};

struct SmbiosTables {
    std::string entry_point;  // 31 bytes; its address of the structures is 0 until place_smbios()
    std::string structures;
};

SmbiosTables build_smbios(const SmbiosConfig& config);
// Entry point with the structures behind it, as bytes for this address (16-byte aligned).
Result<std::string> place_smbios(const SmbiosTables& tables, uint32_t address, size_t size_max);

}  // namespace kumoi::hypervisor
