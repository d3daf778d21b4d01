#include "hypervisor/board/dsdt.h"

#include <algorithm>
#include <vector>

#include "hypervisor/board/aml.h"
#include "hypervisor/board/board_layout.h"
#include "hypervisor/board/dsdt_hotplug.h"
#include "hypervisor/board/hotplug_layout.h"

namespace kumoi::hypervisor {

namespace {

using aml::Aml;
constexpr uint32_t kSlots = 32;
constexpr uint32_t kPins = 4;

// §6.2.13: {address, pin, source 0 = global, GSI}. All functions of a slot share the routing.
Aml interrupt_routes() {
    std::vector<Aml> routes;
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
        for (uint32_t pin = 0; pin < kPins; ++pin) {
            routes.push_back(
                aml::package({aml::integer((uint64_t{slot} << 16) | 0xffff), aml::integer(pin),
                              aml::integer(0), aml::integer(board::pci_intx_gsi(slot, pin))}));
        }
    }
    return aml::package(routes);
}

Aml pci_root(uint64_t ram_end, uint64_t mmio64_end) {
    const uint64_t high = board::pci_mmio64_start(ram_end);
    const uint64_t high_end = std::max(high + board::kPciMmio64Size, mmio64_end);
    const Aml windows = aml::resources({
        aml::bus_range(0, 0),
        aml::io_ports(0xcf8, 8),
        aml::port_window(board::kPciIoStart, board::kPciIoSize),
        aml::memory_window32(static_cast<uint32_t>(board::kPciMmio32Start),
                             static_cast<uint32_t>(board::kPciMmio32Size)),
        aml::memory_window64(high, high_end - high),
    });
    const Aml body =
        aml::name_decl("_HID", aml::eisa_id("PNP0A08")) +
        aml::name_decl("_CID", aml::eisa_id("PNP0A03")) + aml::name_decl("_ADR", aml::integer(0)) +
        aml::name_decl("_SEG", aml::integer(0)) + aml::name_decl("_BBN", aml::integer(0)) +
        aml::name_decl("_UID", aml::integer(0)) + aml::name_decl("_CRS", windows) +
        aml::name_decl("_PRT", interrupt_routes()) + dsdt_pci_slots();
    return aml::device("PCI0", body);
}

Aml serial_port() {
    const Aml resources =
        aml::resources({aml::io_ports(board::kSerialPort, 8), aml::irq(board::kSerialIrq)});
    return aml::device("COM1", aml::name_decl("_HID", aml::eisa_id("PNP0501")) +
                                   aml::name_decl("_UID", aml::integer(1)) +
                                   aml::name_decl("_CRS", resources));
}

Aml keyboard_controller() {
    const Aml resources = aml::resources({aml::io_ports(board::kI8042DataPort, 1),
                                          aml::io_ports(board::kI8042DataPort + 4, 1),
                                          aml::irq(board::kKeyboardIrq)});
    return aml::device("KBD0", aml::name_decl("_HID", aml::eisa_id("PNP0303")) +
                                   aml::name_decl("_CRS", resources));
}

Aml real_time_clock() {
    const Aml resources =
        aml::resources({aml::io_ports(board::kCmosPort, 2), aml::irq(board::kRtcIrq)});
    return aml::device("RTC0", aml::name_decl("_HID", aml::eisa_id("PNP0B00")) +
                                   aml::name_decl("_CRS", resources));
}

// PNP0C02 "motherboard resources": keeps the OS from putting anything over ECAM and the PM block.
Aml reserved_ranges(uint64_t ecam_base) {
    const Aml resources = aml::resources({
        aml::fixed_memory(static_cast<uint32_t>(ecam_base),
                          static_cast<uint32_t>(board::kEcamSize)),
        aml::io_ports(board::kPmBase, static_cast<uint8_t>(board::kPmSize)),
        aml::io_ports(board::kGpe0Base, static_cast<uint8_t>(board::kGpe0Size)),
        aml::io_ports(board::kSmiBase, static_cast<uint8_t>(board::kSmiSize)),
        aml::io_ports(board::kPciHotplugBase, static_cast<uint8_t>(board::kPciHotplugSize)),
        aml::io_ports(board::kCpuHotplugBase, static_cast<uint8_t>(board::kCpuHotplugSize)),
    });
    return aml::device("MRES", aml::name_decl("_HID", aml::eisa_id("PNP0C02")) +
                                   aml::name_decl("_UID", aml::integer(1)) +
                                   aml::name_decl("_CRS", resources));
}

// What Linux's qemu_fw_cfg driver binds to.
Aml firmware_configuration() {
    const Aml resources =
        aml::resources({aml::io_ports(board::kFwCfgPort, static_cast<uint8_t>(board::kFwCfgSize))});
    return aml::device("FWCF", aml::name_decl("_HID", aml::text("QEMU0002")) +
                                   aml::name_decl("_STA", aml::integer(0x0b)) +
                                   aml::name_decl("_CRS", resources));
}

}  // namespace

std::string dsdt_body(const DsdtConfig& config) {
    // §7.4.2: SLP_TYPa, SLP_TYPb and two reserved elements; some systems insist on all four.
    const Aml s5 = aml::package(
        {aml::integer(board::kSleepTypeS5), aml::integer(0), aml::integer(0), aml::integer(0)});
    Aml devices = pci_root(config.ram_end, config.mmio64_end) + serial_port() + real_time_clock() +
                  firmware_configuration() + reserved_ranges(config.ecam_base);
    if (config.keyboard) {
        devices += keyboard_controller();
    }
    return aml::name_decl("\\_S5_", s5) + aml::scope("\\_SB_", devices) +
           dsdt_hotplug_events(config.vcpus, config.vcpus_max);
}

}  // namespace kumoi::hypervisor
