#include "hypervisor/kvm/kvm_platform.h"

#include <atomic>
#include <cstdint>
#include <mutex>

#include <unistd.h>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

// An eventfd bound to a GSI at the first route: a vector the guest never programs costs no KVM
// object.
class KvmMsiVector final : public MsiVector {
public:
    KvmMsiVector(KvmVm& vm, IrqRoutes& routes, UniqueFd eventfd)
        : vm_(vm), routes_(routes), eventfd_(std::move(eventfd)) {}

    ~KvmMsiVector() override {
        if (gsi_ == 0) {
            return;
        }
        if (auto removed = vm_.remove_irqfd(eventfd_.get(), gsi_); !removed) {
            log_warn("kvm", "could not detach an interrupt", {{"error", removed.error().text()}});
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
    std::mutex mutex_;  // guards gsi_
    uint32_t gsi_ = 0;  // 0: none yet (GSI 0 is the timer's)
};

class KvmIrqLine final : public IrqLine {
public:
    KvmIrqLine(KvmVm& vm, uint32_t gsi) : vm_(vm), gsi_(gsi) {}
    void set_level(bool asserted) override {
        // KVM_IRQ_LINE fails only for a machine without irqchip, which create() would have refused.
        if (auto set = vm_.set_irq_line(gsi_, asserted); !set && !reported_.exchange(true)) {
            log_error("kvm", "an interrupt line cannot be driven",
                      {{"gsi", gsi_}, {"error", set.error().text()}});
        }
    }

private:
    KvmVm& vm_;
    uint32_t gsi_;
    std::atomic<bool> reported_{false};
};

}  // namespace

KvmPlatform::KvmPlatform(KvmVm& vm, GuestMemory& memory, Requests requests)
    : vm_(vm), memory_(memory), requests_(std::move(requests)), routes_(vm) {}

Result<std::unique_ptr<MsiVector>> KvmPlatform::create_msi_vector() {
    UniqueFd eventfd = TRY(make_eventfd());
    return std::unique_ptr<MsiVector>(
        std::make_unique<KvmMsiVector>(vm_, routes_, std::move(eventfd)));
}

Result<std::unique_ptr<IrqLine>> KvmPlatform::irq_line(uint32_t gsi) {
    if (gsi >= IrqRoutes::kFirstMsiGsi) {
        return Error::invalid("interrupt line {} does not exist: the board has lines 0 to {}", gsi,
                              IrqRoutes::kFirstMsiGsi - 1);
    }
    return std::unique_ptr<IrqLine>(std::make_unique<KvmIrqLine>(vm_, gsi));
}

Result<void> KvmPlatform::add_doorbell(uint64_t gpa, int eventfd) {
    return vm_.add_ioeventfd(gpa, eventfd);
}

void KvmPlatform::remove_doorbell(uint64_t gpa, int eventfd) {
    if (auto removed = vm_.remove_ioeventfd(gpa, eventfd); !removed) {
        log_warn("kvm", "could not detach a doorbell", {{"error", removed.error().text()}});
    }
}

}  // namespace kumoi::hypervisor
