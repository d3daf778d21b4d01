#include "hypervisor/pci/pvpanic.h"

#include <algorithm>

namespace kumoi::hypervisor {

namespace {

constexpr PciIds kIds{.vendor = 0x1b36,
                      .device = 0x0011,
                      .subsystem_vendor = 0x1af4,
                      .subsystem = 0x1100,
                      .class_code = 0x08'80'00,  // system peripheral, other
                      .revision = 1};

}  // namespace

PvPanic::PvPanic(Events events) : events_(std::move(events)), config_(kIds) {
    config_.add_bar(0, kBarSize, BarWidth::Memory32);
}

uint32_t PvPanic::config_read(uint32_t offset, uint32_t width) {
    return config_.read(offset, width);
}

void PvPanic::config_write(uint32_t offset, uint32_t width, uint32_t value) {
    config_.write(offset, width, value);
}

void PvPanic::io_read(uint64_t offset, std::span<uint8_t> data) {
    std::fill(data.begin(), data.end(), uint8_t{0});
    if (offset == 0) {
        data[0] = kPanicked | kCrashLoaded;
    }
}

// Unknown events are a newer guest's: nothing to do for us.
void PvPanic::io_write(uint64_t offset, std::span<const uint8_t> data) {
    if (offset != 0) {
        return;
    }
    if ((data[0] & kCrashLoaded) != 0) {
        crash_loads_.increment();
        events_.crash_loaded();
    }
    if ((data[0] & kPanicked) != 0) {
        panics_.increment();
        events_.panicked();
    }
}

}  // namespace kumoi::hypervisor
