// Platform: what a device may ask of the machine it sits in. The KVM machine implements it
// (hypervisor/kvm/kvm_platform); tests implement it in memory (tests/support/platform_fake.h).
// All functions may be called from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/result.h"
#include "hypervisor/board/io_bus.h"
#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

// One message-signalled interrupt's way into the guest (an irqfd and its route under KVM).
class MsiVector {
public:
    virtual ~MsiVector() = default;
    virtual Result<void> set_route(uint64_t address, uint32_t data) = 0;
    virtual void trigger() = 0;  // lock free; called from I/O threads
};

// A level or edge line of the interrupt controllers.
class IrqLine {
public:
    virtual ~IrqLine() = default;
    virtual void set_level(bool asserted) = 0;
    void pulse() {
        set_level(true);
        set_level(false);
    }
};

// Host memory that the guest sees at some address, other than its RAM; gone when destroyed.
class MappedMemory {
public:
    virtual ~MappedMemory() = default;
};
enum class GuestAccess {
    ReadOnly,  // ROM and flash: a guest's write becomes an MMIO access
    ReadWrite,
};

class Platform {
public:
    virtual ~Platform() = default;
    virtual GuestMemory& memory() = 0;
    virtual IoBus& port_bus() = 0;
    virtual IoBus& mmio_bus() = 0;
    virtual Result<std::unique_ptr<MsiVector>> create_msi_vector() = 0;
    virtual Result<std::unique_ptr<IrqLine>> irq_line(uint32_t gsi) = 0;
    // Leads PCI interrupt line `pirq` (0 to 3) to this 8259 line, too; 0: to none.
    virtual void route_pirq(uint32_t pirq, uint32_t isa_irq) = 0;
    // `host` is page aligned and must outlive the mapping; nothing else may be mapped at `gpa`.
    virtual Result<std::unique_ptr<MappedMemory>> map_memory(uint64_t gpa,
                                                             std::span<std::byte> host,
                                                             GuestAccess access) = 0;
    // A guest write of any value and width to `gpa` signals `eventfd` without leaving the kernel.
    virtual Result<void> add_doorbell(uint64_t gpa, int eventfd) = 0;
    virtual void remove_doorbell(uint64_t gpa, int eventfd) = 0;
    // Asks the machine's control thread to do something that must not run on a vCPU thread.
    virtual void request_reset() = 0;
    virtual void request_shutdown() = 0;
};

}  // namespace kumoi::hypervisor
