// Where the hot-plug hardware of the board "kumoi-1" is and what its registers mean
// (docs/reference/board-kumoi-1.md, "Hot-plug"). Numbers that guests rely on.
#pragma once

#include <cstdint>

#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor::board {

// Events of the GPE0 block (ACPI 6.4 §4.8.4.1); 16 of its 64 are implemented.
constexpr unsigned kGpePci = 1;  // a PCI slot changed: \_GPE._E01
constexpr unsigned kGpeCpu = 2;  // a processor is to come or go: \_GPE._E02

// PCI: four doublewords with a bit for each slot of bus 0.
constexpr uint16_t kPciHotplugBase = kPmBase + 0x40;
constexpr uint16_t kPciHotplugSize = 16;
constexpr uint32_t kPciHotplugInserted = 0;    // r: came; w: bits to acknowledge
constexpr uint32_t kPciHotplugRemoving = 4;    // r: shall go; w: bits to acknowledge
constexpr uint32_t kPciHotplugEject = 8;       // w: slots let go of; r: slots that hold something
constexpr uint32_t kPciHotplugRemovable = 12;  // r: slots that can be ejected

// Processors: a selector, then what it selects.
constexpr uint16_t kCpuHotplugBase = kPmBase + 0x60;
constexpr uint16_t kCpuHotplugSize = 16;
constexpr uint32_t kCpuHotplugSelect = 0;  // rw, 4 bytes: number of a processor
constexpr uint32_t kCpuHotplugStatus = 4;  // r, 1 byte: kCpu* below; w: kCpu* to clear or eject
constexpr uint32_t kCpuHotplugNext = 8;    // r, 4 bytes: lowest processor with an event, or ~0
constexpr uint8_t kCpuPresent = 1u << 0;
constexpr uint8_t kCpuInserted = 1u << 1;  // event; cleared by writing 1
constexpr uint8_t kCpuRemoving = 1u << 2;  // event; cleared by writing 1
constexpr uint8_t kCpuEject = 1u << 3;     // write only: the guest has let go of it

}  // namespace kumoi::hypervisor::board
