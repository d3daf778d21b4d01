#include "hypervisor/kvm/kvm_platform.h"

#include <cstdint>
#include <mutex>
#include <utility>

#include <unistd.h>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

// By vCPU threads too: how often is the guest's to say.
void warn(ReportLimit& reports, std::string_view what, const Error& error) {
    if (const auto unreported = reports.admit()) {
        log_warn("kvm", what, {{"error", error.text()}, {"unreported", *unreported}});
    }
}

// An eventfd bound to a GSI at the first route: a vector the guest never programs costs no KVM
// object.
class KvmMsiVector final : public MsiVector {
public:
    KvmMsiVector(KvmVm& vm, IrqRoutes& routes, UniqueFd eventfd, ReportLimit& reports)
        : vm_(vm), routes_(routes), eventfd_(std::move(eventfd)), reports_(reports) {}

    ~KvmMsiVector() override {
        if (gsi_ == 0) {
            return;
        }
        if (auto removed = vm_.remove_irqfd(eventfd_.get(), gsi_); !removed) {
            warn(reports_, "could not detach an interrupt", removed.error());
        }
        routes_.free(gsi_);
    }

    Result<void> set_route(uint64_t address, uint32_t data) override {
        const std::lock_guard lock(mutex_);
        if (gsi_ != 0) {
            return routes_.set_msi(gsi_, address, data);
        }
        const uint32_t gsi = TRY(routes_.allocate());
        auto routed = routes_.set_msi(gsi, address, data);
        if (routed) {
            routed = vm_.add_irqfd(eventfd_.get(), gsi);
        }
        if (!routed) {
            routes_.free(gsi);
            return routed;
        }
        gsi_ = gsi;
        return {};
    }

    // EAGAIN would mean 2^64-2 unseen signals; the interrupt is pending then anyway. A vector
    // without a route keeps the signal in its eventfd, and KVM delivers it when the irqfd attaches.
    void trigger() override {
        const uint64_t one = 1;
        [[maybe_unused]] const ssize_t written = ::write(eventfd_.get(), &one, sizeof one);
    }

private:
    KvmVm& vm_;
    IrqRoutes& routes_;
    UniqueFd eventfd_;
    ReportLimit& reports_;
    std::mutex mutex_;  // guards gsi_
    uint32_t gsi_ = 0;  // 0: none yet (GSI 0 is the timer's)
};

// KVM_IRQ_LINE fails only for a machine without irqchip, which create() would have refused.
IrqLines::Drive drive_lines(KvmVm& vm) {
    return [&vm, reported = false](uint32_t gsi, bool asserted) mutable {
        if (auto set = vm.set_irq_line(gsi, asserted); !set && !std::exchange(reported, true)) {
            log_error("kvm", "an interrupt line cannot be driven",
                      {{"gsi", gsi}, {"error", set.error().text()}});
        }
    };
}

}  // namespace

KvmPlatform::KvmPlatform(KvmVm& vm, GuestMemory& memory, Requests requests)
    : vm_(vm),
      memory_(memory),
      requests_(std::move(requests)),
      routes_(vm),
      lines_(drive_lines(vm)) {}

Result<std::unique_ptr<MsiVector>> KvmPlatform::create_msi_vector() {
    UniqueFd eventfd = TRY(make_eventfd());
    return std::unique_ptr<MsiVector>(
        std::make_unique<KvmMsiVector>(vm_, routes_, std::move(eventfd), reports_));
}

// Slots below belong to RAM.
constexpr uint32_t kMappedSlotFirst = 256;

class KvmPlatform::Mapped final : public MappedMemory {
public:
    Mapped(KvmPlatform& platform, uint32_t slot) : platform_(platform), slot_(slot) {}
    ~Mapped() override {
        if (auto removed = platform_.vm_.remove_memory(slot_); !removed) {
            warn(platform_.reports_, "a memory slot cannot be removed", removed.error());
            return;  // the number stays taken
        }
        const std::lock_guard lock(platform_.slots_mutex_);
        platform_.slots_.erase(slot_);
    }

private:
    KvmPlatform& platform_;
    const uint32_t slot_;
};

Result<std::unique_ptr<MappedMemory>> KvmPlatform::map_memory(uint64_t gpa,
                                                              std::span<std::byte> host,
                                                              GuestAccess access) {
    const std::lock_guard lock(slots_mutex_);
    uint32_t slot = kMappedSlotFirst;
    while (slots_.contains(slot)) {
        ++slot;
    }
    const MemoryRegion region{gpa, host.size(), 0, host.data()};
    TRY(vm_.add_memory(slot, region, access == GuestAccess::ReadOnly));
    slots_.insert(slot);
    return std::unique_ptr<MappedMemory>(std::make_unique<Mapped>(*this, slot));
}

Result<void> KvmPlatform::add_doorbell(uint64_t gpa, int eventfd) {
    return vm_.add_ioeventfd(gpa, eventfd);
}

void KvmPlatform::remove_doorbell(uint64_t gpa, int eventfd) {
    if (auto removed = vm_.remove_ioeventfd(gpa, eventfd); !removed) {
        warn(reports_, "could not detach a doorbell", removed.error());
    }
}

}  // namespace kumoi::hypervisor
