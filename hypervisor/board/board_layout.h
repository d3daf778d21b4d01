// The board "kumoi-1": where everything is. These numbers are what a guest, its snapshots and a
// migration peer rely on: they never change for this board name (docs/reference/board-kumoi-1.md).
#pragma once

#include <cstdint>

namespace kumoi::hypervisor::board {

constexpr const char* kName = "kumoi-1";

// Guest physical addresses, bytes.
constexpr uint64_t kEbdaStart = 0x9'fc00;  // the end of conventional memory
constexpr uint64_t kAcpiStart = 0xe'0000;  // RSDP first, tables behind it
constexpr uint64_t kAcpiSize = 0x1'0000;
constexpr uint64_t kSmbiosStart = 0xf'0000;  // entry point first, structures behind it
constexpr uint64_t kSmbiosSize = 0x1'0000;
constexpr uint64_t kHighLoadStart = 0x10'0000;
// Where SeaBIOS puts ECAM on a Q35; PCIEXBAR starts there and a firmware may move it.
constexpr uint64_t kEcamStart = 0xb000'0000;
constexpr uint64_t kEcamSize = 0x1000'0000;  // 256 buses of 1 MiB
constexpr uint64_t kPciMmio32Start = 0xc000'0000;
constexpr uint64_t kPciMmio32Size = 0x3ec0'0000;  // up to the I/O APIC
constexpr uint64_t kIoApicAddress = 0xfec0'0000;
constexpr uint64_t kFirmwareEnd = 0x1'0000'0000;   // firmware flash ends at 4 GiB
constexpr uint64_t kFirmwareCopySize = 0x2'0000;   // its end, seen below 1 MiB as RAM
constexpr uint64_t kFirmwareSizeMax = 0x100'0000;  // 16 MiB
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
constexpr uint16_t kGpe0Base = kPmBase + 0x20;  // 16 bytes: 8 of status, 8 of enable
constexpr uint16_t kGpe0Size = 0x10;
constexpr uint16_t kSmiBase = kPmBase + 0x30;  // SMI_EN, SMI_STS
constexpr uint16_t kSmiSize = 8;
constexpr uint16_t kFwCfgPort = 0x510;
constexpr uint16_t kFwCfgSize = 12;       // selector, data, DMA address
constexpr uint16_t kPciIoStart = 0x1000;  // port window of the PCI root
constexpr uint16_t kPciIoSize = 0xf000;

// Interrupts.
constexpr uint32_t kKeyboardIrq = 1;
constexpr uint32_t kSerialIrq = 4;
constexpr uint32_t kRtcIrq = 8;
constexpr uint32_t kSciIrq = 9;
constexpr uint32_t kPciIntxGsiFirst = 16;
constexpr uint32_t kPirqCount = 4;  // PIRQA to PIRQD of the LPC bridge are GSIs 16 to 19
// PCI INTx: pin 0 is INTA. Slots to 24 rotate over the four lines, the others do not: so SeaBIOS
// computes the interrupt line registers of a Q35.
constexpr uint32_t kRotatingSlotLast = 24;
constexpr uint32_t pci_intx_gsi(uint32_t slot, uint32_t pin) {
    return kPciIntxGsiFirst + ((slot <= kRotatingSlotLast ? slot : 0) + pin) % kPirqCount;
}

}  // namespace kumoi::hypervisor::board
