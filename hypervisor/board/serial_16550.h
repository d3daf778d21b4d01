// Serial16550: the UART every PC has at 0x3f8, with 16-byte FIFOs (National PC16550D data sheet).
//
// Transmission takes no time: a byte written leaves at once through `output`. Received bytes wait
// in a bounded backlog behind the FIFO, so a burst from the console socket is not lost at 16 bytes.
// Threads: registers by any vCPU thread, receive() by the loop; one lock. `output` and the
// interrupt line are called with the lock held and must not call back into the UART.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>

#include "base/metrics.h"
#include "hypervisor/board/io_bus.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

class Serial16550 final : public IoDevice, public Snapshottable {
public:
    static constexpr size_t kBacklogMax = 4096;  // bytes waiting for the guest
    static constexpr uint64_t kPortCount = 8;

    struct Counters {
        Counter transmitted;
        Counter received;
        Counter receive_dropped;
    };

    Serial16550(std::unique_ptr<IrqLine> irq, std::function<void(std::string_view)> output);

    std::string name() const override { return "serial"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    // Bytes from the outside; returns how many fitted.
    size_t receive(std::string_view bytes);
    void reset();
    std::string section_name() const override { return "serial"; }
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;
    const Counters& counters() const { return counters_; }

private:
    uint8_t read_register(uint64_t offset);
    void write_register(uint64_t offset, uint8_t value);
    uint8_t read_data();
    void write_data(uint8_t value);
    void write_fifo_control(uint8_t value);
    uint8_t interrupt_identity() const;
    uint8_t line_status();
    uint8_t modem_status() const;
    bool receive_trigger_reached() const;
    void update_interrupt();

    std::unique_ptr<IrqLine> irq_;
    std::function<void(std::string_view)> output_;
    Counters counters_;
    mutable std::mutex mutex_;  // guards all below
    std::deque<uint8_t> received_;
    uint16_t divisor_ = 12;  // 9600 baud; nothing depends on it
    uint8_t interrupt_enable_ = 0;
    uint8_t fifo_control_ = 0;
    uint8_t line_control_ = 0;
    uint8_t modem_control_ = 0;
    uint8_t scratch_ = 0;
    bool overrun_ = false;
    bool transmit_empty_pending_ = false;  // the THRE interrupt, cleared by reading IIR
    bool line_asserted_ = false;
};

}  // namespace kumoi::hypervisor
