// AcpiPm: the fixed ACPI hardware: PM1 event and control blocks, the PM timer, a reset register and
// the power button (ACPI 6.4 §4.8). Registers stand at board::kPmBase.
//
// The power button sets PWRBTN_STS and, when the guest enabled it, raises the SCI; the guest then
// shuts down and writes SLP_EN with the S5 type, which becomes `request_shutdown`.
// Threads: registers by any vCPU thread, press_power_button() by the loop; one lock. The requests
// and the interrupt line are called with the lock held and must not call back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "base/clock.h"
#include "hypervisor/board/io_bus.h"
#include "hypervisor/board/platform.h"

namespace kumoi::hypervisor {

class AcpiPm final : public IoDevice {
public:
    static constexpr int64_t kTimerHz = 3'579'545;

    struct Requests {
        std::function<void()> reset;
        std::function<void()> shutdown;
    };
    AcpiPm(const Clock& clock, std::unique_ptr<IrqLine> sci, Requests requests);

    std::string name() const override { return "acpi-pm"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    // False when the guest has not enabled the button: nobody will answer it.
    bool press_power_button();
    // The GPE block asks for the SCI, or no longer does; any thread.
    void set_gpe(bool wanted);
    void reset();

private:
    uint8_t read_byte(uint64_t offset) const;
    void write_byte(uint64_t offset, uint8_t value);
    uint32_t timer() const;
    void update_sci();

    const Clock& clock_;
    std::unique_ptr<IrqLine> sci_;
    Requests requests_;
    std::mutex mutex_;  // guards all below
    uint16_t status_ = 0;
    uint16_t enable_ = 0;
    uint16_t control_ = 0;
    bool gpe_wanted_ = false;
    bool sci_asserted_ = false;
};

}  // namespace kumoi::hypervisor
