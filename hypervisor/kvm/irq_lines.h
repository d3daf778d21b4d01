// IrqLines: the board's wired interrupt lines over KVM_IRQ_LINE. Several devices may share a line:
// it is up while any of them holds it up. The four PCI lines also reach the 8259 lines that the LPC
// bridge routes them to.
//
// Thread safe; lines may be driven from any thread. Must outlive the lines it opened.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "hypervisor/board/board_layout.h"
#include "hypervisor/board/platform.h"

namespace kumoi::hypervisor {

class IrqLines {
public:
    static constexpr uint32_t kLineCount = 24;
    // Drives one line of the interrupt chips; called with the lock held.
    using Drive = std::function<void(uint32_t gsi, bool asserted)>;
    explicit IrqLines(Drive drive) : drive_(std::move(drive)) {}

    Result<std::unique_ptr<IrqLine>> open(uint32_t gsi);
    void route_pirq(uint32_t pirq, uint32_t isa_irq);  // 0: to none

private:
    class Line;
    void change(uint32_t gsi, bool asserted);  // one holder more or less
    void change_one(uint32_t gsi, bool asserted);

    Drive drive_;
    std::mutex mutex_;  // guards all below
    std::array<uint32_t, kLineCount> holders_{};
    std::array<uint32_t, board::kPirqCount> routes_{};
};

}  // namespace kumoi::hypervisor
