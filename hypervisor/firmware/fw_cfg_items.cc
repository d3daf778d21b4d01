#include "hypervisor/firmware/fw_cfg_items.h"

#include <algorithm>

#include "hypervisor/firmware/table_loader.h"

namespace kumoi::hypervisor {

namespace {

template <class T>
std::string little_endian(T value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
}

// Entries of 20 bytes: base, size, type. Firmware reserves its own parts of the RAM listed here.
std::string e820(const std::vector<MemoryRegion>& ram) {
    constexpr uint32_t kRam = 1;
    std::string map;
    for (const MemoryRegion& region : ram) {
        map += little_endian(region.gpa) + little_endian(region.size) + little_endian(kRam);
    }
    return map;
}

std::string raw_uuid(const std::string& text) {
    std::string bytes;
    for (size_t i = 0; i + 1 < text.size(); i += 2) {
        i += text[i] == '-' ? 1 : 0;
        bytes += static_cast<char>(std::stoul(text.substr(i, 2), nullptr, 16));
    }
    bytes.resize(16, '\0');
    return bytes;
}

Result<void> add_acpi(FwCfg& fw_cfg, const FirmwareItems& items) {
    const AcpiImage image = assemble_acpi(items.acpi());
    TRY(fw_cfg.add_generated(kAcpiTablesFile, static_cast<uint32_t>(image.tables.size()),
                             [acpi = items.acpi] { return assemble_acpi(acpi()).tables; }));
    TRY(fw_cfg.add_file(kAcpiRsdpFile, image.rsdp));
    return fw_cfg.add_file(kTableLoaderFile, table_loader(image));
}

// What firmware older than fw_cfg files would read: nothing there.
void add_legacy_items(FwCfg& fw_cfg, const FirmwareItems& items) {
    constexpr uint16_t kNone = 0;
    const auto count = static_cast<uint16_t>(items.vcpus);
    fw_cfg.add_item(FwCfg::kUuid, raw_uuid(items.uuid));
    fw_cfg.add_item(FwCfg::kRamSize, little_endian(items.ram.front().size));
    fw_cfg.add_item(FwCfg::kNoGraphic, little_endian(uint16_t{1}));
    fw_cfg.add_item(FwCfg::kCpuCount, little_endian(count));
    fw_cfg.add_item(FwCfg::kCpuCountMax, little_endian(count));
    fw_cfg.add_item(FwCfg::kNuma, little_endian(uint64_t{0}));
    fw_cfg.add_item(FwCfg::kBootMenu, little_endian(uint16_t{items.firmware.boot_menu}));
    fw_cfg.add_item(FwCfg::kLegacyAcpi, little_endian(kNone));
    fw_cfg.add_item(FwCfg::kLegacySmbios, little_endian(kNone));
    fw_cfg.add_item(FwCfg::kLegacyIrq0, little_endian(uint8_t{0}));
    fw_cfg.add_item(FwCfg::kLegacyE820, little_endian(uint32_t{0}));
}

}  // namespace

Result<void> add_firmware_items(FwCfg& fw_cfg, const FirmwareItems& items) {
    constexpr uint16_t kFirstSerialPort = 0x3f8;
    constexpr uint32_t kNeverRetry = ~0u;  // a machine that cannot boot says so and stays
    add_legacy_items(fw_cfg, items);
    TRY(fw_cfg.add_file("etc/e820", e820(items.ram)));
    if (items.memory_end != 0) {
        TRY(fw_cfg.add_file("etc/reserved-memory-end", little_endian(items.memory_end)));
    }
    TRY(add_acpi(fw_cfg, items));
    const SmbiosTables smbios = build_smbios(items.smbios);
    TRY(fw_cfg.add_file("etc/smbios/smbios-anchor", smbios.entry_point));
    TRY(fw_cfg.add_file("etc/smbios/smbios-tables", smbios.structures));
    TRY(fw_cfg.add_file("etc/boot-fail-wait", little_endian(kNeverRetry)));
    // Without it SeaBIOS waits 2.5 s for a key at each start.
    TRY(fw_cfg.add_file("etc/show-boot-menu", little_endian(uint16_t{items.firmware.boot_menu})));
    if (items.firmware.type == FirmwareType::Bios && items.firmware.serial_console) {
        TRY(fw_cfg.add_file("etc/sercon-port", little_endian(kFirstSerialPort)));
    }
    if (!items.boot_order.empty()) {
        std::string order;
        for (const std::string& path : items.boot_order) {
            order += order.empty() ? path : "\n" + path;
        }
        TRY(fw_cfg.add_file("bootorder", order + '\0'));
    }
    return {};
}

std::string boot_path_disk(unsigned slot) {
    return fmt::format("/pci@i0cf8/scsi@{:x}/disk@0,0", slot);
}

std::string boot_path_scsi(unsigned slot, unsigned function, unsigned target) {
    return fmt::format("/pci@i0cf8/scsi@{:x},{:x}/channel@0/disk@{:x},0", slot, function, target);
}

std::string boot_path_nic(unsigned slot) {
    return fmt::format("/pci@i0cf8/ethernet@{:x}/ethernet-phy@0", slot);
}

}  // namespace kumoi::hypervisor
