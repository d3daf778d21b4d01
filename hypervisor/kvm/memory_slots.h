// MemorySlots: the memory slots of a machine, and which of them KVM logs writes of.
//
// While logging is on, a slot that comes (memory is plugged) is logged from its first moment, if it
// shows a part of the logged memory: KVM's own account of a slot that goes is lost with it, so who
// takes it away marks its pages himself (GuestMemory does). Thread safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <span>

#include "base/result.h"
#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

class MemorySlots {
public:
    struct Slot {
        MemoryRegion region;
        bool read_only = false;
        bool logged = false;
        uint64_t first_page = 0;  // of the logged memory
        uint64_t pages() const { return region.size / PageBitmap::kPageSize; }
    };
    // KVM_SET_USER_MEMORY_REGION.
    using Set = std::function<Result<void>(uint32_t number, const Slot& slot)>;

    explicit MemorySlots(Set set) : set_(std::move(set)) {}

    Result<void> add(uint32_t number, const MemoryRegion& region, bool read_only);
    Result<void> remove(uint32_t number);

    // `memory`: the host's view of what is logged. On error nothing is.
    Result<void> start_logging(std::span<const std::byte> memory);
    Result<void> stop_logging();
    // Each logged slot; none comes or goes meanwhile. Stops at the first error.
    Result<void> for_each_logged(
        const std::function<Result<void>(uint32_t number, const Slot& slot)>& visit) const;

private:
    // With mutex_ held:
    void place(Slot& slot) const;  // whether it is to be logged
    Result<void> unlog();

    const Set set_;
    mutable std::mutex mutex_;  // guards all below
    std::map<uint32_t, Slot> slots_;
    std::span<const std::byte> logged_;  // empty: logging is off
};

}  // namespace kumoi::hypervisor
