#include "hypervisor/kvm/kvm_dirty_log.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "hypervisor/kvm/dirty_ring.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kWordBits = 64;

uint64_t words_for(uint64_t pages) {
    return (pages + kWordBits - 1) / kWordBits;
}

}  // namespace

KvmDirtyLog::Offer KvmDirtyLog::offer_of(const Kvm& kvm) {
    const auto bytes = [&kvm](int capability) {
        return static_cast<uint64_t>(std::max(kvm.capability(capability), 0));
    };
    Offer offer;
    const uint64_t in_order = bytes(KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
    offer.ring_entries = std::max(bytes(KVM_CAP_DIRTY_LOG_RING), in_order) / sizeof(kvm_dirty_gfn);
    offer.ring_in_order = in_order != 0;
    offer.manual =
        (bytes(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0;
    offer.by_hardware = Kvm::hypercalls_work();
    return offer;
}

Result<KvmDirtyLog::Kind> KvmDirtyLog::choose(const Offer& offer, DirtyTracking tracking,
                                              const Machine& machine) {
    if (tracking == DirtyTracking::Ring) {
        if (offer.ring_entries < kRingEntries) {
            return Error::unsupported("KVM offers no dirty ring of {} entries", kRingEntries)
                .with_hint("set \"dirty_tracking\" to \"auto\", or run Linux 5.11 or newer");
        }
        return Kind::Ring;
    }
    if (tracking == DirtyTracking::Auto && offer.ring_in_order &&
        offer.ring_entries >= kRingEntries && offer.by_hardware && machine.vcpus > 1 &&
        machine.memory <= kRingMemoryMax) {
        return Kind::Ring;
    }
    return offer.manual ? Kind::Manual : Kind::Plain;
}

Result<std::unique_ptr<KvmDirtyLog>> KvmDirtyLog::create(const Kvm& kvm, KvmVm& vm,
                                                         GuestMemory& memory, Kind kind,
                                                         uint32_t ring_entries) {
    std::unique_ptr<KvmDirtyLog> log(new KvmDirtyLog(vm, memory, kind));
    if (kind == Kind::Ring) {
        TRY(vm.enable_dirty_rings(ring_entries, memory.file_pages()));
    }
    log->manual_flags_ = static_cast<uint64_t>(kvm.capability(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)) &
                         (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
    return log;
}

KvmDirtyLog::~KvmDirtyLog() {
    stop();
}

std::string_view KvmDirtyLog::kind() const {
    switch (kind_) {
        case Kind::Plain: return "bitmap";
        case Kind::Manual: return "manual";
        default: return "ring";
    }
}

// Our own writes first: what this process writes before KVM logs is seen too.
Result<void> KvmDirtyLog::start() {
    if (started()) {
        return Error::conflict("the guest's writes are being logged already");
    }
    if (kind_ == Kind::Ring) {
        TRY(vm_.dirty_rings().forget());
    }
    TRY(memory_.start_marking());
    Result<void> begun = others_ ? others_() : Result<void>();
    if (begun.ok() && kind_ == Kind::Manual) {
        begun = vm_.enable_manual_dirty_log(manual_flags_);
    }
    if (begun.ok()) {
        begun = vm_.slots().start_logging(memory_.file_bytes());
    }
    if (!begun.ok()) {
        stop_marking();
        return begun;
    }
    started_.store(true, std::memory_order_release);
    return {};
}

void KvmDirtyLog::stop() {
    if (!started()) {
        return;
    }
    started_.store(false, std::memory_order_release);
    if (auto stopped = vm_.slots().stop_logging(); !stopped.ok()) {
        log_warn("kvm", "the logging of writes could not be stopped",
                 {{"error", stopped.error().text()}});
    }
    if (kind_ == Kind::Ring) {
        (void)vm_.dirty_rings().harvest();  // what is left in them must not be taken for new
    }
    stop_marking();
}

void KvmDirtyLog::stop_marking() {
    memory_.stop_marking();
    if (!others_) {
        return;
    }
    if (auto told = others_(); !told.ok()) {
        log_warn("kvm", "a device goes on as while writes were logged",
                 {{"error", told.error().text()}});
    }
}

// Our own marks last: whatever made a device write (a vCPU's doorbell) is older.
Result<void> KvmDirtyLog::collect(PageBitmap& into) {
    if (into.pages() != pages()) {
        return Error::internal("a set of {} pages cannot take those of {}", into.pages(), pages());
    }
    if (kind_ == Kind::Ring) {
        TRY(vm_.dirty_rings().harvest_into(into));
    } else {
        TRY(collect_bitmaps(into));
    }
    memory_.take_marks(into);
    return {};
}

Result<void> KvmDirtyLog::collect_bitmaps(PageBitmap& into) {
    return vm_.slots().for_each_logged(
        [&](uint32_t number, const MemorySlots::Slot& slot) -> Result<void> {
            slot_words_.assign(words_for(slot.pages()), 0);
            TRY(vm_.get_dirty_log(number, slot_words_));
            into.merge_words(slot.first_page, slot_words_, slot.pages());
            return {};
        });
}

Result<void> KvmDirtyLog::rearm(uint64_t first_page, uint64_t count) {
    if (kind_ != Kind::Manual) {
        return {};  // collect() has done it
    }
    return vm_.slots().for_each_logged([&](uint32_t number, const MemorySlots::Slot& slot) {
        return rearm_slot(number, slot, first_page, count);
    });
}

// KVM takes whole words of pages, and of those the ones whose bits are set.
Result<void> KvmDirtyLog::rearm_slot(uint32_t number, const MemorySlots::Slot& slot, uint64_t first,
                                     uint64_t count) {
    constexpr uint64_t kWords = 128;  // of one ioctl: 32 MiB of guest memory
    const uint64_t pages = slot.pages();
    const uint64_t end_page = count > UINT64_MAX - first ? UINT64_MAX : first + count;
    if (end_page <= slot.first_page || first >= slot.first_page + pages) {
        return {};
    }
    uint64_t from = first > slot.first_page ? first - slot.first_page : 0;
    const uint64_t end = std::min(end_page - slot.first_page, pages);
    while (from < end) {
        const uint64_t window = from / kWordBits * kWordBits;
        const uint64_t window_end = std::min(window + kWords * kWordBits, pages);
        const uint64_t to = std::min(end, window_end);
        const uint64_t last = std::min((to + kWordBits - 1) / kWordBits * kWordBits, pages);
        PageBitmap bits(last - window);
        bits.set(from - window, to - from);
        TRY(vm_.clear_dirty_log(number, window, last - window, bits.words()));
        from = to;
    }
    return {};
}

Result<void> KvmDirtyLog::ring_full(uint32_t vcpu) {
    if (kind_ != Kind::Ring) {
        return Error::internal("KVM says that a dirty ring is full, and there are none");
    }
    const auto begun = std::chrono::steady_clock::now();
    auto done = vm_.dirty_rings().harvest_full(vcpu);
    ring_full_ns_ += std::chrono::nanoseconds(std::chrono::steady_clock::now() - begun).count();
    return done;
}

Result<uint64_t> KvmDirtyLog::dirtied_by(uint32_t vcpu) {
    if (kind_ != Kind::Ring) {
        return Error::unsupported("which vCPU writes is known by its dirty ring only");
    }
    TRY(vm_.dirty_rings().harvest());
    return vm_.dirty_rings().harvested(vcpu);
}

}  // namespace kumoi::hypervisor
