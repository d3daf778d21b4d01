#include "hypervisor/kvm/memory_slots.h"

#include <utility>

namespace kumoi::hypervisor {

void MemorySlots::place(Slot& slot) const {
    const std::byte* host = slot.region.host;
    slot.logged = !slot.read_only && !logged_.empty() && host >= logged_.data() &&
                  host + slot.region.size <= logged_.data() + logged_.size();
    if (slot.logged) {
        slot.first_page = static_cast<uint64_t>(host - logged_.data()) / PageBitmap::kPageSize;
    }
}

Result<void> MemorySlots::add(uint32_t number, const MemoryRegion& region, bool read_only) {
    const std::lock_guard lock(mutex_);
    Slot slot{.region = region, .read_only = read_only};
    place(slot);
    TRY(set_(number, slot));
    slots_.insert_or_assign(number, slot);
    return {};
}

Result<void> MemorySlots::remove(uint32_t number) {
    const std::lock_guard lock(mutex_);
    const auto found = slots_.find(number);
    if (found == slots_.end()) {
        return Error::internal("there is no memory slot {}", number);
    }
    Slot gone;
    gone.region.gpa = found->second.region.gpa;  // size 0 deletes
    TRY(set_(number, gone));
    slots_.erase(found);
    return {};
}

Result<void> MemorySlots::start_logging(std::span<const std::byte> memory) {
    const std::lock_guard lock(mutex_);
    logged_ = memory;
    for (auto& [number, slot] : slots_) {
        place(slot);
        if (!slot.logged) {
            continue;
        }
        if (auto set = set_(number, slot); !set.ok()) {
            slot.logged = false;
            (void)unlog();  // what failed first is what counts
            return set;
        }
    }
    return {};
}

Result<void> MemorySlots::stop_logging() {
    const std::lock_guard lock(mutex_);
    return unlog();
}

Result<void> MemorySlots::unlog() {
    logged_ = {};
    Result<void> result;
    for (auto& [number, slot] : slots_) {
        if (!std::exchange(slot.logged, false)) {
            continue;
        }
        if (auto set = set_(number, slot); !set.ok()) {
            result = std::move(set);
        }
    }
    return result;
}

Result<void> MemorySlots::for_each_logged(
    const std::function<Result<void>(uint32_t number, const Slot& slot)>& visit) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, slot] : slots_) {
        if (slot.logged) {
            TRY(visit(number, slot));
        }
    }
    return {};
}

}  // namespace kumoi::hypervisor
