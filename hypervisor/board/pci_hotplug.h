// PciHotplug: the registers by which the board and a guest agree on PCI functions that come and go
// on bus 0 (board/hotplug_layout.h). The DSDT's methods drive them; a guest without ACPI can.
//
// The board announces (insert, request_removal) and raises an event; the guest acknowledges, and
// ejects a slot when its driver has let go. What an ejection does is the owner's business: the
// callback comes on a vCPU thread with the slots the guest named, whatever they are.
// Threads: registers by any vCPU thread, the rest by the loop; one lock, not held in callbacks.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>

#include "hypervisor/board/io_bus.h"

namespace kumoi::hypervisor {

class PciHotplug final : public IoDevice {
public:
    struct Events {
        std::function<void()> changed;                // raises the GPE
        std::function<void(uint32_t slots)> ejected;  // on a vCPU thread; must not block
    };
    // `removable`: the slots whose devices may come and go.
    PciHotplug(uint32_t removable, Events events)
        : removable_(removable), events_(std::move(events)) {}

    std::string name() const override { return "pci-hotplug"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;

    void set_present(unsigned slot, bool present);  // quietly: as the machine is made, or emptied
    void insert(unsigned slot);                     // present, and the guest is told
    void request_removal(unsigned slot);
    void withdraw_removal(unsigned slot);  // a request the guest has not seen yet is taken back
    void reset();                          // events are forgotten; what is present stays

    struct State {
        uint32_t inserted = 0;
        uint32_t removing = 0;
    };
    State state();
    void set_state(State state);

private:
    uint32_t read_register(uint64_t index) const;
    const uint32_t removable_;
    Events events_;
    std::mutex mutex_;  // guards all below
    State state_;
    uint32_t present_ = 0;
};

}  // namespace kumoi::hypervisor
