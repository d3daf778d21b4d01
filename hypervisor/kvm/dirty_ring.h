// DirtyRings: the dirty rings of a machine's vCPUs (api.rst §8.29): KVM writes into a vCPU's ring
// which pages it has dirtied; whoever harvests takes the entries and gives them back.
//
// A ring that is nearly full ends KVM_RUN until it is harvested: the vCPU does that itself, and the
// next collection takes what it found. So nobody waits for the migration thread. A KVM that
// emulates many instructions before it looks (one without VT-x or AMD-V) may run past the end of a
// ring all the same and lose entries. That is seen, for then all of the ring is new: nothing is
// logged any more, and every later harvest fails. Thread safe: one harvest at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "hypervisor/kvm/kvm_abi.h"

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/kvm/memory_slots.h"
#include "hypervisor/memory/page_bitmap.h"

namespace kumoi::hypervisor {

// One ring, whose entries KVM writes meanwhile.
class DirtyRing {
public:
    DirtyRing() = default;
    explicit DirtyRing(std::span<kvm_dirty_gfn> entries) : entries_(entries) {}
    // Takes every entry there is (slot number, page of it) and marks it as harvested. False: some
    // were lost.
    bool harvest(const std::function<void(uint32_t slot, uint64_t page)>& visit);
    // KVM still calls a ring full that it ran past, waiting for entries that it will never write:
    // it gets some, fewer than it waits for. Only once nothing is logged any more.
    void lead_on();
    bool owes() const { return owed_ != 0; }  // KVM has entries to take back
    void returned(uint64_t count) { owed_ -= std::min(owed_, count); }
    uint64_t harvested() const { return harvested_; }

private:
    kvm_dirty_gfn& at(uint64_t index) const { return entries_[index % entries_.size()]; }

    std::span<kvm_dirty_gfn> entries_;
    uint64_t next_ = 0;  // to be harvested
    uint64_t owed_ = 0;  // before it, not yet taken back
    uint64_t harvested_ = 0;
};

class DirtyRings {
public:
    // KVM_RESET_DIRTY_RINGS: how many entries KVM has taken back.
    using Reset = std::function<Result<uint64_t>()>;

    DirtyRings(uint32_t entries, MemorySlots& slots, uint64_t pages, Reset reset)
        : entries_(entries), slots_(slots), reset_(std::move(reset)), found_(pages) {}

    // Of a new vCPU.
    Result<void> add(int vcpu_fd);
    // Empties the rings, and has KVM protect the pages again. What was found is kept.
    Result<void> harvest_full(uint32_t vcpu);  // whose ring KVM calls full
    Result<void> harvest();
    Result<void> harvest_into(PageBitmap& into);  // gives all that was found
    Result<void> forget();                        // what was found; fails as a harvest would
    uint64_t harvested(uint32_t vcpu) const;      // pages since its ring is there

private:
    Result<void> harvest_locked();
    Result<void> give_back(DirtyRing& ring) const;
    Result<void> give_up();
    struct Ring {
        Mapping mapping;
        DirtyRing ring;
    };
    const uint32_t entries_;
    MemorySlots& slots_;
    const Reset reset_;
    mutable std::mutex mutex_;  // guards all below
    std::vector<Ring> rings_;
    PageBitmap found_;
    bool broken_ = false;  // one ran past its end
};

}  // namespace kumoi::hypervisor
