// The board "kumoi-1": where everything is. These numbers are what a guest, its snapshots and a
// migration peer rely on: they never change for this board name (docs/reference/board-kumoi-1.md).
#pragma once

#include <cstdint>

namespace kumoi::hypervisor::board {

constexpr const char* kName = "kumoi-1";

// Guest physical addresses, bytes.
constexpr uint64_t kEbdaStart = 0x9'fc00;  // the end of conventional memory
constexpr uint64_t kAcpiStart = 0xe'0000;  // RSDP first, tables behind it
constexpr uint64_t kAcpiSize = 0x2'0000;
constexpr uint64_t kHighLoadStart = 0x10'0000;
constexpr uint64_t kPciMmio32Start = 0xc000'0000;
constexpr uint64_t kPciMmio32Size = 0x2000'0000;
constexpr uint64_t kEcamStart = 0xe000'0000;
constexpr uint64_t kEcamSize = 0x1000'0000;  // 256 buses of 1 MiB
constexpr uint64_t kIoApicAddress = 0xfec0'0000;
constexpr uint64_t kLocalApicAddress = 0xfee0'0000;
// The 64-bit PCI window: 64 GiB at the first multiple of 64 GiB above the end of RAM.
constexpr uint64_t kPciMmio64Size = 0x10'0000'0000;
constexpr uint64_t pci_mmio64_start(uint64_t ram_end) {
    return (ram_end + kPciMmio64Size - 1) / kPciMmio64Size * kPciMmio64Size;
}

// I/O ports.
constexpr uint16_t kDebugconPort = 0x402;
constexpr uint16_t kPort80 = 0x80;
constexpr uint16_t kE9Port = 0xe9;
constexpr uint16_t kSerialPort = 0x3f8;
constexpr uint16_t kCmosPort = 0x70;
constexpr uint16_t kI8042DataPort = 0x60;
constexpr uint16_t kI8042CommandPort = 0x64;
constexpr uint16_t kPort92 = 0x92;
constexpr uint16_t kPmBase = 0x600;
constexpr uint16_t kPmSize = 0x10;
constexpr uint16_t kPm1Event = kPmBase;        // 4 bytes: status, enable
constexpr uint16_t kPm1Control = kPmBase + 4;  // 2 bytes
constexpr uint16_t kPmTimer = kPmBase + 8;     // 4 bytes, 3.579545 MHz
constexpr uint16_t kPmReset = kPmBase + 12;    // 1 byte: kPmResetValue resets the machine
constexpr uint8_t kPmResetValue = 0x06;
constexpr uint8_t kSleepTypeS5 = 5;
constexpr uint16_t kPciIoStart = 0x1000;  // port window of the PCI root
constexpr uint16_t kPciIoSize = 0xf000;

// Interrupts.
constexpr uint32_t kSerialIrq = 4;
constexpr uint32_t kRtcIrq = 8;
constexpr uint32_t kSciIrq = 9;
constexpr uint32_t kPciIntxGsiFirst = 16;
// PCI INTx: pin 0 is INTA. Swizzled over GSIs 16 to 19.
constexpr uint32_t pci_intx_gsi(uint32_t slot, uint32_t pin) {
    return kPciIntxGsiFirst + (slot + pin) % 4;
}

}  // namespace kumoi::hypervisor::board
