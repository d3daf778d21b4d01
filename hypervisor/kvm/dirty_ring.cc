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
    if (overrun_) {
        catch_up();
    }
    size_t taken = 0;
    for (; taken < entries_.size() && is_new(at(next_)); ++taken, ++next_) {
        visit(at(next_).slot, at(next_).offset);
        give_back(at(next_));
    }
    harvested_ += taken;
    overrun_ = overrun_ || taken == entries_.size();
    return taken < entries_.size();
}

// KVM has gone round past us: the entries up to its next one will never be written. KVM waits to
// get them back, too.
void DirtyRing::catch_up() {
    for (uint64_t ahead = 0; ahead < entries_.size(); ++ahead) {
        if (is_new(at(next_ + ahead))) {
            next_ += ahead;
            overrun_ = false;
            return;
        }
    }  // it has not written since
}

// A full ring has more than these entries that KVM waits for.
void DirtyRing::lead_on() {
    constexpr uint64_t kStep = 64;
    next_ += std::min<uint64_t>(kStep, entries_.size() / 2);
}

// Where KVM went round past what it had not taken back, it waits for entries that it has had: each
// gets one more, of a slot that is nobody's.
bool DirtyRing::returned(uint64_t count) {
    returned_ += count;
    bool more = false;
    for (uint64_t index = returned_; index < next_; ++index) {
        uint32_t taken_back = 0;
        if (flags_of(at(index)).load(std::memory_order_acquire) != taken_back) {
            break;
        }
        at(index).slot = kNoSlot;
        more |= flags_of(at(index)).compare_exchange_strong(taken_back, KVM_DIRTY_GFN_F_RESET,
                                                            std::memory_order_acq_rel);
    }
    return more;
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
    DirtyRing& ring = rings_[vcpu].ring;
    const uint64_t before = ring.harvested();
    TRY(harvest_locked());
    if (ring.overrun() && ring.harvested() == before) {
        ring.lead_on();
        return give_back(ring);
    }
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

void DirtyRings::forget() {
    const std::lock_guard lock(mutex_);
    found_.clear_all();
}

Result<void> DirtyRings::harvest_locked() {
    std::map<uint32_t, MemorySlots::Slot> logged;
    TRY(slots_.for_each_logged([&](uint32_t number, const MemorySlots::Slot& slot) {
        logged.emplace(number, slot);
        return Result<void>();
    }));
    bool complete = true;
    for (Ring& one : rings_) {
        complete &= one.ring.harvest([&](uint32_t number, uint64_t page) {
            const auto slot = logged.find(number & 0xffff);  // above: the address space, always 0
            if (slot != logged.end() && page < slot->second.pages()) {
                found_.set(slot->second.first_page + page);
            }
        });
        TRY(give_back(one.ring));
    }
    return complete ? Result<void>() : all_may_be_dirty();
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
    } while (count.ok() && ring.returned(*count));
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return count.ok() ? Result<void>() : std::move(count).error();
}

// A page whose entry is lost is one that KVM does not protect any more, either.
Result<void> DirtyRings::all_may_be_dirty() {
    if (!std::exchange(told_, true)) {
        log_warn("kvm", "a dirty ring ran over: every page counts as written",
                 {{"entries", entries_}});
    }
    TRY(slots_.log_anew());
    found_.set_all();
    return {};
}

uint64_t DirtyRings::harvested(uint32_t vcpu) const {
    const std::lock_guard lock(mutex_);
    return vcpu < rings_.size() ? rings_[vcpu].ring.harvested() : 0;
}

}  // namespace kumoi::hypervisor
