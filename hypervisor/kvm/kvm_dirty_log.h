// KvmDirtyLog: the DirtyLog of a machine: what KVM says its vCPUs wrote, and what GuestMemory says
// this process wrote.
//
// Three ways, by what KVM offers and the machine asks for: the bitmap whose pages are protected
// again one run at a time ("manual": least work for a running guest), the plain bitmap, and the
// dirty ring. The ring excludes the bitmaps for as long as the machine lives (KVM on x86 has no
// bitmap behind a ring), so it must be decided before the first vCPU is there, and a ring that ran
// over cannot be made up for by a bitmap.
//
// `auto` takes the ring where it is worth that and cannot run over:
//   - KVM orders a ring's entries (KVM_CAP_DIRTY_LOG_RING_ACQ_REL) and makes them long enough;
//   - the processor runs guests by itself: then KVM ends KVM_RUN before a ring is full. Where KVM
//     emulates ring 0 it may run over;
//   - there can be several vCPUs: the ring tells who writes, so that a migration slows down nobody
//     else. With one vCPU there is nobody else;
//   - the guest is not huge: a ring wants all pages protected when logging starts, 4 to 5 ms a GiB
//     in which vCPUs may wait. The manual bitmap protects each page right before it is sent.
// Else the manual bitmap, and the plain one where KVM has no other.
// Threading: DirtyLog; ring_full() by vCPU threads.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "hypervisor/kvm/kvm.h"
#include "hypervisor/kvm/memory_slots.h"
#include "hypervisor/memory/dirty_log.h"
#include "hypervisor/memory_config.h"

namespace kumoi::hypervisor {

class KvmDirtyLog final : public DirtyLog {
public:
    static constexpr uint32_t kRingEntries = 8192;  // of a vCPU: 128 KiB, 32 MiB of dirty pages
    enum class Kind { Plain, Manual, Ring };

    static constexpr uint64_t kRingMemoryMax = 64ull << 30;  // of `auto`
    struct Offer {                                           // of this KVM
        uint64_t ring_entries = 0;                           // 0: none
        bool ring_in_order = false;
        bool manual = false;
        bool by_hardware = false;  // the processor runs guests by itself
    };
    struct Machine {
        uint32_t vcpus = 1;
        uint64_t memory = 0;  // bytes, with what may be plugged
    };
    static Offer offer_of(const Kvm& kvm);
    // Unsupported: what was asked for is not there.
    static Result<Kind> choose(const Offer& offer, DirtyTracking tracking, const Machine& machine);
    // Before the first vCPU. `ring_entries`: a power of two, at least 1024.
    static Result<std::unique_ptr<KvmDirtyLog>> create(const Kvm& kvm, KvmVm& vm,
                                                       GuestMemory& memory, Kind kind,
                                                       uint32_t ring_entries = kRingEntries);
    ~KvmDirtyLog() override;

    // Whoever else writes to guest memory: called when marking has begun and when it has ended.
    void set_others(std::function<Result<void>()> others) { others_ = std::move(others); }

    std::string_view kind() const override;
    uint64_t pages() const override { return memory_.file_pages(); }
    Result<void> start() override;
    Result<void> collect(PageBitmap& into) override;
    Result<void> rearm(uint64_t first_page, uint64_t count) override;
    void stop() override;
    bool started() const override { return started_.load(std::memory_order_acquire); }

    // KVM_EXIT_DIRTY_RING_FULL.
    Result<void> ring_full(uint32_t vcpu);
    int64_t ring_full_ns() const { return ring_full_ns_.load(std::memory_order_relaxed); }
    // Pages that a vCPU has dirtied so far, as its ring tells: harvests it. Any thread.
    Result<uint64_t> dirtied_by(uint32_t vcpu);

private:
    KvmDirtyLog(KvmVm& vm, GuestMemory& memory, Kind kind)
        : vm_(vm), memory_(memory), kind_(kind) {}
    void stop_marking();
    Result<void> collect_bitmaps(PageBitmap& into);
    Result<void> rearm_slot(uint32_t number, const MemorySlots::Slot& slot, uint64_t first,
                            uint64_t count);

    KvmVm& vm_;
    GuestMemory& memory_;
    const Kind kind_;
    uint64_t manual_flags_ = 0;
    std::function<Result<void>()> others_;
    std::atomic<bool> started_{false};
    std::atomic<int64_t> ring_full_ns_{0};  // that vCPUs have stood in ring_full()
    std::vector<uint64_t> slot_words_;      // one slot's bitmap, collect() only
};

}  // namespace kumoi::hypervisor
