#include "compute/driver/guest_firmware.h"

#include "base/file.h"
#include "base/version.h"
#include "compute/driver/disk_file.h"

namespace kumoi::compute {
namespace {

std::string property(const Properties& image, const std::string& name) {
    const auto found = image.find(name);
    return found == image.end() ? std::string() : found->second;
}

// As oslo.utils' strutils reads a boolean.
bool is_true(const std::string& text) {
    return text == "true" || text == "True" || text == "1" || text == "yes" || text == "on";
}

bool machine_type_is_ours(const std::string& type) {
    return type.empty() || type == "kumoi-1" || type == "q35" || type.starts_with("pc-q35-") ||
           type.starts_with("x86_64=q35") || type.starts_with("x86_64=pc-q35-");
}

Error refuse(const std::string& name, const std::string& value, std::string_view wanted) {
    return Error::unsupported("Image property {}={} is not possible here; {}", name, value, wanted)
        .with_hint("Remove the property, or choose another host.")
        .with_fault("ImageUnacceptable");
}

}  // namespace

BootMethod boot_method(const Properties& image) {
    if (!property(image, "kernel_id").empty()) {
        return BootMethod::Kernel;
    }
    return property(image, "hw_firmware_type") == "uefi" ? BootMethod::Uefi : BootMethod::Bios;
}

Result<void> check_firmware(const Properties& image) {
    const std::string machine = property(image, "hw_machine_type");
    if (!machine_type_is_ours(machine)) {
        return refuse("hw_machine_type", machine,
                      "the board is kumoi-1, a Q35: 'q35' and 'pc-q35-*' are taken for it");
    }
    const std::string type = property(image, "hw_firmware_type");
    if (!type.empty() && type != "bios" && type != "uefi") {
        return refuse("hw_firmware_type", type, "'bios' and 'uefi' are");
    }
    if (type == "uefi" && boot_method(image) == BootMethod::Kernel) {
        return refuse("hw_firmware_type", type,
                      "the image has a kernel_id, and a kernel boots without firmware");
    }
    return {};
}

Json firmware_config(const Properties& image, const InstanceFolder& folder,
                     const FirmwareOptions& options) {
    const bool uefi = boot_method(image) == BootMethod::Uefi;
    Json firmware = Json::object({{"type", uefi ? "uefi" : "bios"},
                                  {"code", uefi ? options.uefi_code : options.bios},
                                  {"boot_menu", is_true(property(image, "hw_boot_menu"))}});
    if (uefi) {
        firmware.set("nvram", folder.nvram());
    }
    return firmware;
}

Json smbios_config(const Instance& instance) {
    return Json::object({{"manufacturer", "OpenStack Foundation"},
                         {"product", "OpenStack Nova"},
                         {"version", kVersion},
                         {"serial", instance.uuid},
                         {"family", "Virtual Machine"}});
}

Result<void> make_nvram(const Properties& image, const InstanceFolder& folder,
                        const FirmwareOptions& options) {
    if (boot_method(image) != BootMethod::Uefi || path_exists(folder.nvram())) {
        return {};
    }
    TRY_CONTEXT(copy_sparse(options.uefi_variables, folder.nvram(), 0600),
                "making the guest's UEFI variables");
    return {};
}

}  // namespace kumoi::compute
