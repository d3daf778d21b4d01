// PciDevice: one PCI function's face towards the root complex (PCI Local Bus 3.0, PCIe base spec).
// The root (hypervisor/pci/pci_root) owns configuration cycles (CF8/CFC and ECAM) and BAR
// placement; the device owns its configuration space and what lies behind its BARs. Threading:
// config accesses are serialised by the root; BAR accesses come from any vCPU thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/board/io_bus.h"
#include "hypervisor/pci/config_space.h"

namespace kumoi::hypervisor {

class PciDevice {
public:
    virtual ~PciDevice() = default;
    virtual std::string name() const = 0;
    // offset < 256 (CF8/CFC) or < 4096 (ECAM); 1, 2 or 4 bytes, naturally aligned or not: guest's
    // choice.
    virtual uint32_t config_read(uint32_t offset, uint32_t width) = 0;
    virtual void config_write(uint32_t offset, uint32_t width, uint32_t value) = 0;
    virtual void
    reset() = 0;  // back to power-on state; queues stopped, BARs kept by the board's assignment

    // A function with BARs returns its configuration space and what lies behind each BAR: the root
    // then places, maps and moves them.
    virtual PciConfigSpace* config_space() { return nullptr; }
    virtual IoDevice* bar(unsigned /*index*/) { return nullptr; }
    // The BAR is now mapped at `base`, or no longer mapped (0). For doorbells, which move with it.
    virtual void bar_moved(unsigned /*index*/, uint64_t /*base*/) {}

    // Control thread. When pause() has returned, nothing is in flight and no guest memory is
    // touched until resume().
    virtual void pause() {}
    virtual void resume() {}
    virtual Json statistics_json() const { return {}; }  // null: nothing is counted
};

}  // namespace kumoi::hypervisor
