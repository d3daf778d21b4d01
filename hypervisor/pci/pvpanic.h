// PvPanic: the panic notifier, PCI 1b36:0011: one byte register in a memory BAR through which a
// guest's kernel says that it died. Reading gives the events that are understood.
//
// Linux, Windows and the BSDs have drivers. A guest may say it as often as it likes: what it says
// is handed on by the callbacks, whose owner collapses repetitions. Threading: as PciDevice; the
// callbacks run on vCPU threads and must not block.
#pragma once

#include <functional>
#include <string>

#include "base/metrics.h"
#include "hypervisor/pci/pci_device.h"

namespace kumoi::hypervisor {

class PvPanic final : public PciDevice, private IoDevice {
public:
    static constexpr uint8_t kPanicked = 1u << 0;     // the guest is dead
    static constexpr uint8_t kCrashLoaded = 1u << 1;  // its crash kernel takes over
    static constexpr uint64_t kBarSize = 0x1000;

    struct Events {
        std::function<void()> panicked;
        std::function<void()> crash_loaded;
    };

    explicit PvPanic(Events events);

    uint64_t panic_count() const { return panics_.value(); }
    uint64_t crash_loaded_count() const { return crash_loads_.value(); }
    Json statistics_json() const override {
        return Json::object({{"panics", panics_.value()}, {"crash_loads", crash_loads_.value()}});
    }

    std::string name() const override { return "pvpanic"; }
    uint32_t config_read(uint32_t offset, uint32_t width) override;
    void config_write(uint32_t offset, uint32_t width, uint32_t value) override;
    void reset() override { config_.reset_command(); }
    PciConfigSpace* config_space() override { return &config_; }
    IoDevice* bar(unsigned index) override { return index == 0 ? this : nullptr; }

private:
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;

    const Events events_;
    PciConfigSpace config_;
    Counter panics_, crash_loads_;
};

}  // namespace kumoi::hypervisor
