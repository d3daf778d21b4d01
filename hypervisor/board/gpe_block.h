// GpeBlock: the general purpose event registers of ACPI (6.4 §4.8.4): a status and an enable bit
// for each of 16 events. A status bit that is enabled asks for the SCI, which AcpiPm drives.
//
// Threads: registers by any vCPU thread, raise() by any thread; one lock, under which `sci` is
// called and must not call back.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>

#include "hypervisor/board/io_bus.h"

namespace kumoi::hypervisor {

class GpeBlock final : public IoDevice {
public:
    explicit GpeBlock(std::function<void(bool wanted)> sci) : sci_(std::move(sci)) {}

    std::string name() const override { return "acpi-gpe0"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;

    void raise(unsigned event);
    bool enabled(unsigned event);  // the guest listens to it
    void reset();

    struct State {
        uint16_t status = 0;
        uint16_t enable = 0;
    };
    State state();
    void set_state(State state);

private:
    void update();
    std::function<void(bool)> sci_;
    std::mutex mutex_;  // guards state_
    State state_;
};

}  // namespace kumoi::hypervisor
