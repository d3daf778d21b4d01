#include "hypervisor/kvm/dirty_ring.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <map>
#include <utility>

#include <sys/mman.h>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint32_t kNoSlot = UINT32_MAX;

std::atomic_ref<__u32> flags_of(kvm_dirty_gfn& entry) {
    return std::atomic_ref<__u32>(entry.flags);
}

bool is_new(kvm_dirty_gfn& entry) {
    return flags_of(entry).load(std::memory_order_acquire) == KVM_DIRTY_GFN_F_DIRTY;
}

void give_back(kvm_dirty_gfn& entry) {
    flags_of(entry).store(KVM_DIRTY_GFN_F_RESET, std::memory_order_release);
}

}  // namespace

bool DirtyRing::harvest(const std::function<void(uint32_t slot, uint64_t page)>& visit) {
    size_t taken = 0;
    for (; taken < entries_.size() && is_new(at(next_)); ++taken, ++next_) {
        visit(at(next_).slot, at(next_).offset);
        give_back(at(next_));
    }
    owed_ += taken;
    harvested_ += taken;
    return taken < entries_.size();
}

// The slot that is nobody's makes KVM pass over them.
void DirtyRing::lead_on() {
    constexpr uint64_t kStep = 64;
    for (uint64_t i = 0; i < std::min<uint64_t>(kStep, entries_.size() / 4); ++i, ++next_) {
        at(next_).slot = kNoSlot;
        give_back(at(next_));
        ++owed_;
    }
}

Result<void> DirtyRings::add(int vcpu_fd) {
    constexpr uint64_t kOffset = uint64_t{KVM_DIRTY_LOG_PAGE_OFFSET} * PageBitmap::kPageSize;
    Ring ring;
    ring.mapping = TRY_CONTEXT(Mapping::map(vcpu_fd, entries_ * sizeof(kvm_dirty_gfn),
                                            PROT_READ | PROT_WRITE, MAP_SHARED, kOffset),
                               "a vCPU's dirty ring of {} entries", entries_);
    ring.ring = DirtyRing({reinterpret_cast<kvm_dirty_gfn*>(ring.mapping.data()), entries_});
    const std::lock_guard lock(mutex_);
    rings_.push_back(std::move(ring));
    return {};
}

Result<void> DirtyRings::harvest_full(uint32_t vcpu) {
    const std::lock_guard lock(mutex_);
    if (vcpu >= rings_.size()) {
        return Error::internal("vCPU {} has no dirty ring, and KVM calls it full", vcpu);
    }
    if (broken_) {  // the guest shall run on, whatever becomes of the migration
        rings_[vcpu].ring.lead_on();
        return give_back(rings_[vcpu].ring);
    }
    (void)harvest_locked();  // who collects hears of it
    return {};
}

Result<void> DirtyRings::harvest() {
    const std::lock_guard lock(mutex_);
    return harvest_locked();
}

// In one piece: a page that another thread has found may not be read before KVM has protected it.
Result<void> DirtyRings::harvest_into(PageBitmap& into) {
    const std::lock_guard lock(mutex_);
    TRY(harvest_locked());
    into.merge(found_);
    found_.clear_all();
    return {};
}

Result<void> DirtyRings::forget() {
    const std::lock_guard lock(mutex_);
    found_.clear_all();
    return broken_ ? give_up() : Result<void>();
}

Result<void> DirtyRings::harvest_locked() {
    if (broken_) {
        return give_up();
    }
    std::map<uint32_t, MemorySlots::Slot> logged;
    TRY(slots_.for_each_logged([&](uint32_t number, const MemorySlots::Slot& slot) {
        logged.emplace(number, slot);
        return Result<void>();
    }));
    for (Ring& one : rings_) {
        const bool complete = one.ring.harvest([&](uint32_t number, uint64_t page) {
            const auto slot = logged.find(number & 0xffff);  // above: the address space, always 0
            if (slot != logged.end() && page < slot->second.pages()) {
                found_.set(slot->second.first_page + page);
            }
        });
        TRY(give_back(one.ring));
        if (!complete) {
            return give_up();
        }
    }
    return {};
}

// A page whose entry is lost is one that KVM does not protect any more, either: nothing can be said
// of it until logging begins anew, and then the ring would run over again.
Result<void> DirtyRings::give_up() {
    if (!std::exchange(broken_, true)) {
        log_warn("kvm", "a dirty ring ran over; writes are not logged any more",
                 {{"entries", entries_}});
        TRY(slots_.stop_logging());
    }
    return Error::unsupported("KVM on this host loses entries of its dirty rings")
        .with_hint("set \"dirty_tracking\" of the guest to \"bitmap\"");
}

// KVM stops at a signal that is pending, and Linux since 6.16 then forgets to protect some of the
// pages it has counted: there shall be none.
Result<void> DirtyRings::give_back(DirtyRing& ring) const {
    if (!ring.owes()) {
        return {};
    }
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    Result<uint64_t> count = 0;
    do {
        count = reset_();
        ring.returned(count.ok() ? *count : 0);
    } while (count.ok() && *count != 0 && ring.owes());
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return count.ok() ? Result<void>() : std::move(count).error();
}

uint64_t DirtyRings::harvested(uint32_t vcpu) const {
    const std::lock_guard lock(mutex_);
    return vcpu < rings_.size() ? rings_[vcpu].ring.harvested() : 0;
}

}  // namespace kumoi::hypervisor
