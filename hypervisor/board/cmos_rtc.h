// CmosRtc: the MC146818 clock and its battery RAM at ports 0x70/0x71.
//
// The time is the host's UTC plus whatever the guest set; no alarm, periodic or update interrupt is
// raised (IRQ 8 stays quiet: guests that want ticks use the PIT, LAPIC or kvmclock). RAM sizes
// stand in the registers firmware traditionally leaves them in. Threads: any vCPU thread; one lock.
#pragma once

#include <array>
#include <cstdint>
#include <ctime>
#include <mutex>

#include "base/clock.h"
#include "hypervisor/board/io_bus.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

class CmosRtc final : public IoDevice, public Snapshottable {
public:
    static constexpr uint64_t kPortCount = 2;

    CmosRtc(const Clock& clock, uint64_t memory_bytes, uint32_t vcpus = 1);

    std::string name() const override { return "rtc"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    void reset();
    std::string section_name() const override { return "rtc"; }
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

private:
    void store_memory_size(uint64_t bytes);
    uint8_t read_register() const;
    void write_register(uint8_t value);
    std::tm now() const;
    bool update_in_progress() const;
    uint8_t encode(int value) const;
    int decode(uint8_t value) const;
    uint8_t encode_hour(int hour) const;
    int decode_hour(uint8_t value) const;
    void set_time_field(uint8_t index, uint8_t value);

    const Clock& clock_;
    mutable std::mutex mutex_;  // guards all below
    std::array<uint8_t, 128> ram_{};
    uint8_t index_ = 0;
    int64_t offset_seconds_ = 0;  // guest's clock minus the host's
};

}  // namespace kumoi::hypervisor
