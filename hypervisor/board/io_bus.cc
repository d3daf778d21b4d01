#include "hypervisor/board/io_bus.h"

#include <algorithm>
#include <mutex>

namespace kumoi::hypervisor {

Result<void> IoBus::add(uint64_t base, uint64_t size, IoDevice& device) {
    if (size == 0 || base + (size - 1) < base) {
        return Error::invalid("{} asks for the range {:#x}+{:#x}, which is empty or wraps around",
                              device.name(), base, size);
    }
    const std::unique_lock lock(mutex_);
    auto next = ranges_.lower_bound(base);
    if (next != ranges_.end() && next->first - base < size) {
        return Error::conflict("{} at {:#x}+{:#x} overlaps {} at {:#x}+{:#x}", device.name(), base,
                               size, next->second.device->name(), next->first, next->second.size);
    }
    if (next != ranges_.begin()) {
        const auto& [other_base, other] = *std::prev(next);
        if (base - other_base < other.size) {
            return Error::conflict("{} at {:#x}+{:#x} overlaps {} at {:#x}+{:#x}", device.name(),
                                   base, size, other.device->name(), other_base, other.size);
        }
    }
    ranges_.emplace(base, Range{size, &device});
    return {};
}

void IoBus::remove(uint64_t base) {
    const std::unique_lock lock(mutex_);
    ranges_.erase(base);
}

const IoBus::Range* IoBus::find(uint64_t address, uint64_t& offset) const {
    auto next = ranges_.upper_bound(address);
    if (next == ranges_.begin()) {
        return nullptr;
    }
    --next;
    offset = address - next->first;
    return offset < next->second.size ? &next->second : nullptr;
}

// The lock covers only the lookup: a device's handler may itself move BARs, which calls add() and
// remove(). Devices outlive the vCPU threads (see the header), so the pointer stays good.
bool IoBus::read(uint64_t address, std::span<uint8_t> data) {
    std::ranges::fill(data, uint8_t{0xff});
    IoDevice* device = nullptr;
    uint64_t offset = 0;
    {
        const std::shared_lock lock(mutex_);
        if (const Range* range = find(address, offset)) {
            device = range->device;
        }
    }
    if (device == nullptr) {
        return false;
    }
    device->io_read(offset, data);
    return true;
}

bool IoBus::write(uint64_t address, std::span<const uint8_t> data) {
    IoDevice* device = nullptr;
    uint64_t offset = 0;
    {
        const std::shared_lock lock(mutex_);
        if (const Range* range = find(address, offset)) {
            device = range->device;
        }
    }
    if (device == nullptr) {
        return false;
    }
    device->io_write(offset, data);
    return true;
}

}  // namespace kumoi::hypervisor
