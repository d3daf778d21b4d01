// I6300Esb: the watchdog of the Intel 6300ESB chip set (datasheet 300641, chapter 15), PCI
// 8086:25ab, for which Linux, FreeBSD and Windows have drivers.
//
// Two timers run one after the other, counted in steps of 2^15 or 2^5 PCI clocks of 33 MHz; a
// guest that does not write the reload register before both have run out is hung: `expired` is
// called on the loop's thread and its owner does what the configuration says. Every register write
// needs the unlock sequence 0x80, 0x86 first. The first timer's interrupt is not modelled. A stage
// lasts at least kStageNsMin, so that a guest cannot keep the loop busy with expiries.
// Time stands still while the machine is paused. Threading: register accesses come from vCPU
// threads, verbs from the loop's thread; one mutex. Keeping alive costs no work on the loop.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/metrics.h"
#include "hypervisor/pci/pci_device.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

class I6300Esb final : public PciDevice, public Snapshottable, private IoDevice {
public:
    static constexpr uint64_t kBarSize = 16;
    static constexpr int64_t kStageNsMin = 100 * kNanosPerMilli;

    I6300Esb(EventLoop& loop, const Clock& clock, std::function<void()> expired);
    ~I6300Esb() override;

    void pause() override;
    void resume() override;
    Json statistics_json() const override {
        return Json::object({{"expiries", expiries_.value()}, {"reloads", reloads_.value()}});
    }
    uint64_t expiry_count() const { return expiries_.value(); }
    uint64_t reload_count() const { return reloads_.value(); }

    std::string name() const override { return "watchdog"; }
    uint32_t config_read(uint32_t offset, uint32_t width) override;
    void config_write(uint32_t offset, uint32_t width, uint32_t value) override;
    void reset() override;
    PciConfigSpace* config_space() override { return &config_; }
    IoDevice* bar(unsigned index) override { return index == 0 ? this : nullptr; }

    std::string section_name() const override { return "watchdog"; }
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

private:
    enum class Unlock { Locked, HalfOpen, Open };
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    void write_reload(uint32_t value);
    void start_stage(unsigned stage);  // with the lock held, as everything below
    void stop();
    int64_t stage_ns(unsigned stage) const;
    bool enabled() const;
    void arm_later();
    void arm();  // on the loop's thread, without the lock
    void timer_fired();

    EventLoop& loop_;
    const Clock& clock_;
    const std::function<void()> expired_;
    std::shared_ptr<std::atomic<bool>> alive_;  // shared: posted functions may outlive us
    std::atomic<bool> arm_posted_{false};
    std::optional<EventLoop::TimerId> timer_;  // loop's thread only
    mutable std::mutex mutex_;                 // guards everything below
    PciConfigSpace config_;
    uint32_t preload_[2] = {};
    Unlock unlock_ = Unlock::Locked;
    bool timed_out_ = false;  // survives a reset: the driver reads why it was reset
    unsigned stage_ = 0;      // 0: not running, 1, 2
    int64_t deadline_ns_ = 0;
    bool paused_ = false;
    int64_t remaining_ns_ = 0;  // while paused
    Counter expiries_, reloads_;
};

}  // namespace kumoi::hypervisor
