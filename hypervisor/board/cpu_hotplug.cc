#include "hypervisor/board/cpu_hotplug.h"

#include <algorithm>
#include <cstring>

#include "hypervisor/board/hotplug_layout.h"

namespace kumoi::hypervisor {

namespace {
constexpr uint8_t kStored = board::kCpuPresent | board::kCpuInserted | board::kCpuRemoving;
constexpr uint8_t kEvents = board::kCpuInserted | board::kCpuRemoving;
}  // namespace

CpuHotplug::CpuHotplug(uint32_t present, uint32_t possible, Events events)
    : events_(std::move(events)), cpus_(possible) {
    std::fill_n(cpus_.begin(), std::min(present, possible), board::kCpuPresent);
}

uint32_t CpuHotplug::next_event() const {
    const auto found =
        std::ranges::find_if(cpus_, [](uint8_t cpu) { return (cpu & kEvents) != 0; });
    return found == cpus_.end() ? ~0u : static_cast<uint32_t>(found - cpus_.begin());
}

uint8_t CpuHotplug::read_byte(uint64_t offset) const {
    if (offset < board::kCpuHotplugStatus) {
        return static_cast<uint8_t>(selected_ >> (8 * offset));
    }
    if (offset == board::kCpuHotplugStatus) {
        return selected_ < cpus_.size() ? cpus_[selected_] : uint8_t{0};
    }
    if (offset >= board::kCpuHotplugNext && offset < board::kCpuHotplugNext + 4) {
        return static_cast<uint8_t>(next_event() >> (8 * (offset - board::kCpuHotplugNext)));
    }
    return 0xff;
}

void CpuHotplug::io_read(uint64_t offset, std::span<uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        data[i] = read_byte(offset + i);
    }
}

void CpuHotplug::io_write(uint64_t offset, std::span<const uint8_t> data) {
    std::unique_lock lock(mutex_);
    if (offset == board::kCpuHotplugSelect && data.size() == 4) {
        std::memcpy(&selected_, data.data(), sizeof selected_);
        return;
    }
    if (offset != board::kCpuHotplugStatus || data.size() != 1 || selected_ >= cpus_.size()) {
        return;
    }
    uint8_t& cpu = cpus_[selected_];
    cpu &= static_cast<uint8_t>(~(data[0] & kEvents));
    const bool ejects =
        (data[0] & board::kCpuEject) != 0 && selected_ != 0 && (cpu & board::kCpuPresent) != 0;
    if (!ejects) {
        return;
    }
    cpu = 0;
    const uint32_t ejected = selected_;
    lock.unlock();
    events_.ejected(ejected);
}

void CpuHotplug::insert(uint32_t cpu) {
    {
        const std::lock_guard lock(mutex_);
        cpus_[cpu] = board::kCpuPresent | board::kCpuInserted;
    }
    events_.changed();
}

void CpuHotplug::request_removal(uint32_t cpu) {
    {
        const std::lock_guard lock(mutex_);
        cpus_[cpu] |= board::kCpuRemoving;
    }
    events_.changed();
}

void CpuHotplug::withdraw_removal(uint32_t cpu) {
    const std::lock_guard lock(mutex_);
    cpus_[cpu] &= static_cast<uint8_t>(~board::kCpuRemoving);
}

bool CpuHotplug::present(uint32_t cpu) {
    const std::lock_guard lock(mutex_);
    return cpu < cpus_.size() && (cpus_[cpu] & board::kCpuPresent) != 0;
}

void CpuHotplug::remove(uint32_t cpu) {
    const std::lock_guard lock(mutex_);
    cpus_[cpu] = 0;
}

void CpuHotplug::reset() {
    const std::lock_guard lock(mutex_);
    selected_ = 0;
    for (uint8_t& cpu : cpus_) {
        cpu &= board::kCpuPresent;
    }
}

std::vector<uint8_t> CpuHotplug::state() {
    const std::lock_guard lock(mutex_);
    return cpus_;
}

Result<void> CpuHotplug::set_state(const std::vector<uint8_t>& state) {
    const std::lock_guard lock(mutex_);
    if (state.size() != cpus_.size() || (state.front() & board::kCpuPresent) == 0 ||
        std::ranges::any_of(state, [](uint8_t cpu) { return (cpu & ~kStored) != 0; })) {
        return Error::corrupt("the processors of the saved machine do not fit this one with {}",
                              cpus_.size());
    }
    cpus_ = state;
    return {};
}

}  // namespace kumoi::hypervisor
