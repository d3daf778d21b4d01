// How a server boots, as its image says: a kernel given beside it (kernel_id), or firmware that
// finds a boot loader on its disk or CD. Properties and defaults are Nova's: hw_firmware_type
// (bios), hw_machine_type, hw_boot_menu. Pure functions.
#pragma once

#include <string>

#include "base/json.h"
#include "base/result.h"
#include "compute/driver/instance_folder.h"
#include "compute/objects.h"

namespace kumoi::compute {

enum class BootMethod { Kernel, Bios, Uefi };

struct FirmwareOptions {
    std::string bios = "/usr/share/seabios/bios-256k.bin";
    std::string uefi_code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    std::string uefi_variables = "/usr/share/OVMF/OVMF_VARS_4M.fd";  // the template of nvram.fd
};

BootMethod boot_method(const Properties& image);
// Refuses machine types and firmware that are not here, naming the property and its value.
Result<void> check_firmware(const Properties& image);
// The members "firmware" and "boot" of guest.json for a method other than Kernel.
Json firmware_config(const Properties& image, const InstanceFolder& folder,
                     const FirmwareOptions& options);
// SMBIOS as Nova's guests know it: cloud-init takes the product name for OpenStack.
Json smbios_config(const Instance& instance);
// The guest's own copy of the UEFI variables; one that is there is kept.
Result<void> make_nvram(const Properties& image, const InstanceFolder& folder,
                        const FirmwareOptions& options);

}  // namespace kumoi::compute
