// Where each PCI function of the board "kumoi-1" sits on bus 0. A guest and a migration peer rely
// on it: fixed by the configuration, never by discovery (docs/reference/board-kumoi-1.md).
#pragma once

#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {

struct PciAddress {
    unsigned slot = 0;      // 0 to 31
    unsigned function = 0;  // 0 to 7
    bool operator==(const PciAddress&) const = default;
};

namespace board {

constexpr unsigned kPciSlotCount = 32;
constexpr unsigned kPciFunctionCount = 8;

constexpr PciAddress kPciHostBridge{0, 0};
constexpr PciAddress kPciPvPanic{1, 0};  // always there: function 0 makes the others visible
constexpr PciAddress kPciRng{1, 1};
constexpr PciAddress kPciBalloon{1, 2};
constexpr PciAddress kPciVsock{1, 3};
constexpr PciAddress kPciWatchdog{1, 4};
constexpr PciAddress kPciConsole{1, 5};
constexpr PciAddress kPciScsi{1, 6};
constexpr PciAddress kPciVirtioMem{1, 7};
constexpr PciAddress kPciDisplay{2, 0};
constexpr PciAddress kPciKeyboard{2, 1};
constexpr PciAddress kPciTablet{2, 2};
constexpr unsigned kPciNicSlotFirst = 3;
constexpr unsigned kPciNicSlotLast = 10;
constexpr unsigned kPciDiskSlotFirst = 11;
constexpr unsigned kPciDiskSlotLast = 30;
constexpr PciAddress kPciLpcBridge{31, 0};
constexpr PciAddress kPciChannels{31, 1};  // beside the bridge, which is always there

// Interrupt pin of a function: 1 is INTA. Functions of one slot use different pins, so that they
// spread over the four lines.
constexpr uint8_t pci_interrupt_pin(PciAddress at) {
    return static_cast<uint8_t>(at.function % 4 + 1);
}
constexpr uint32_t pci_interrupt_gsi(PciAddress at) {
    return pci_intx_gsi(at.slot, at.function % 4);
}

}  // namespace board
}  // namespace kumoi::hypervisor
