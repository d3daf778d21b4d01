#include "hypervisor/board/pci_hotplug.h"

#include <algorithm>
#include <cstring>

#include "hypervisor/board/hotplug_layout.h"

namespace kumoi::hypervisor {

uint32_t PciHotplug::read_register(uint64_t index) const {
    switch (index * 4) {
        case board::kPciHotplugInserted: return state_.inserted;
        case board::kPciHotplugRemoving: return state_.removing;
        case board::kPciHotplugEject: return present_;
        default: return removable_;
    }
}

// Any byte of a register can be read; nothing changes by reading.
void PciHotplug::io_read(uint64_t offset, std::span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        const uint64_t at = offset + i;
        data[i] = at < board::kPciHotplugSize
                      ? static_cast<uint8_t>(read_register(at / 4) >> (at % 4 * 8))
                      : uint8_t{0xff};
    }
}

// Only whole registers can be written.
void PciHotplug::io_write(uint64_t offset, std::span<const uint8_t> data) {
    if (data.size() != 4 || offset % 4 != 0) {
        return;
    }
    uint32_t value = 0;
    std::memcpy(&value, data.data(), sizeof value);
    uint32_t ejected = 0;
    {
        const std::lock_guard lock(mutex_);
        if (offset == board::kPciHotplugInserted) {
            state_.inserted &= ~value;
        } else if (offset == board::kPciHotplugRemoving) {
            state_.removing &= ~value;
        } else if (offset == board::kPciHotplugEject) {
            ejected = value & present_ & removable_;
            present_ &= ~ejected;  // once: a guest that repeats itself is not heard
            state_.inserted &= ~ejected;
            state_.removing &= ~ejected;
        }
    }
    if (ejected != 0) {
        events_.ejected(ejected);
    }
}

void PciHotplug::set_present(unsigned slot, bool present) {
    const std::lock_guard lock(mutex_);
    const uint32_t bit = uint32_t{1} << slot;
    present_ = present ? present_ | bit : present_ & ~bit;
    if (!present) {
        state_.inserted &= ~bit;
        state_.removing &= ~bit;
    }
}

void PciHotplug::insert(unsigned slot) {
    {
        const std::lock_guard lock(mutex_);
        present_ |= uint32_t{1} << slot;
        state_.inserted |= uint32_t{1} << slot;
    }
    events_.changed();
}

void PciHotplug::request_removal(unsigned slot) {
    {
        const std::lock_guard lock(mutex_);
        state_.removing |= uint32_t{1} << slot;
    }
    events_.changed();
}

void PciHotplug::withdraw_removal(unsigned slot) {
    const std::lock_guard lock(mutex_);
    state_.removing &= ~(uint32_t{1} << slot);
}

void PciHotplug::reset() {
    set_state({});
}

PciHotplug::State PciHotplug::state() {
    const std::lock_guard lock(mutex_);
    return state_;
}

void PciHotplug::set_state(State state) {
    const std::lock_guard lock(mutex_);
    state_.inserted = state.inserted & removable_;
    state_.removing = state.removing & removable_;
}

}  // namespace kumoi::hypervisor
