// CpuHotplug: the registers by which the board and a guest agree on processors that come and go
// (board/hotplug_layout.h). A selector chooses the processor whose status byte is seen; the guest
// looks for the next one with an event, clears the event, and ejects a processor it has let go of.
//
// Processor 0 always stays. Threads: registers by any vCPU thread, the rest by the loop; one lock,
// not held in callbacks.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "hypervisor/board/io_bus.h"

namespace kumoi::hypervisor {

class CpuHotplug final : public IoDevice {
public:
    struct Events {
        std::function<void()> changed;              // raises the GPE
        std::function<void(uint32_t cpu)> ejected;  // on a vCPU thread; must not block
    };
    CpuHotplug(uint32_t present, uint32_t possible, Events events);

    std::string name() const override { return "cpu-hotplug"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;

    void insert(uint32_t cpu);  // is there from now on, and the guest is told
    void request_removal(uint32_t cpu);
    void withdraw_removal(uint32_t cpu);
    bool present(uint32_t cpu);
    void remove(uint32_t cpu);  // quietly: the machine stands still
    void reset();               // events are forgotten

    std::vector<uint8_t> state();  // a status byte for each possible processor
    Result<void> set_state(const std::vector<uint8_t>& state);

private:
    uint32_t next_event() const;
    uint8_t read_byte(uint64_t offset) const;
    Events events_;
    std::mutex mutex_;  // guards all below
    uint32_t selected_ = 0;
    std::vector<uint8_t> cpus_;  // kCpuPresent, kCpuInserted, kCpuRemoving
};

}  // namespace kumoi::hypervisor
