// PlatformFake: a Platform in memory, for device tests: real RAM and buses, interrupts that are
// counted, doorbells that are remembered and rung by hand. Thread safe where the real one is.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "hypervisor/board/platform.h"

namespace kumoi::hypervisor {

class PlatformFake final : public Platform {
public:
    struct Interrupts {
        std::mutex mutex;
        std::map<std::pair<uint64_t, uint32_t>, uint64_t> by_message;  // (address, data) -> count
        std::map<uint32_t, bool> levels;                               // by gsi
        uint64_t total = 0;
        uint64_t vectors_made = 0;
    };

    explicit PlatformFake(uint64_t memory_size = 16u << 20)
        : memory_(GuestMemory::create(memory_size).value()) {}

    GuestMemory& memory() override { return memory_; }
    IoBus& port_bus() override { return ports_; }
    IoBus& mmio_bus() override { return mmio_; }

    Result<std::unique_ptr<MsiVector>> create_msi_vector() override {
        if (refuse_vectors) {
            return Error::exhausted("no vector left, as the test wants");
        }
        const std::lock_guard lock(interrupts_.mutex);
        ++interrupts_.vectors_made;
        return Result<std::unique_ptr<MsiVector>>(std::make_unique<Vector>(interrupts_));
    }
    Result<std::unique_ptr<IrqLine>> irq_line(uint32_t gsi) override {
        return Result<std::unique_ptr<IrqLine>>(std::make_unique<Line>(interrupts_, gsi));
    }
    void route_pirq(uint32_t pirq, uint32_t isa_irq) override { pirq_routes[pirq] = isa_irq; }
    Result<std::unique_ptr<MappedMemory>> map_memory(uint64_t gpa, std::span<std::byte> host,
                                                     GuestAccess access) override {
        if (!mapped_.emplace(gpa, std::pair(host, access)).second) {
            return Error::conflict("memory is mapped at {:#x}", gpa);
        }
        return Result<std::unique_ptr<MappedMemory>>(std::make_unique<Mapped>(mapped_, gpa));
    }
    // What a guest's read of mapped memory would see; nullptr where nothing is mapped.
    const std::byte* mapped_byte(uint64_t gpa) const {
        for (const auto& [base, memory] : mapped_) {
            if (gpa >= base && gpa - base < memory.first.size()) {
                return &memory.first[gpa - base];
            }
        }
        return nullptr;
    }
    Result<void> add_doorbell(uint64_t gpa, int eventfd) override {
        const std::lock_guard lock(mutex_);
        if (!doorbells_.emplace(gpa, eventfd).second) {  // as KVM: one at an address
            return Error::conflict("a doorbell at {:#x} exists", gpa);
        }
        return {};
    }
    void remove_doorbell(uint64_t gpa, int eventfd) override {
        const std::lock_guard lock(mutex_);
        const auto found = doorbells_.find(gpa);
        if (found == doorbells_.end() || found->second != eventfd) {
            ++wrong_removals;
            return;
        }
        doorbells_.erase(found);
    }
    void request_reset() override { ++resets; }
    void request_shutdown() override { ++shutdowns; }

    std::set<uint64_t> doorbell_addresses() const {
        const std::lock_guard lock(mutex_);
        std::set<uint64_t> addresses;
        for (const auto& [gpa, fd] : doorbells_) {
            addresses.insert(gpa);
        }
        return addresses;
    }
    uint64_t interrupt_count() {
        const std::lock_guard lock(interrupts_.mutex);
        return interrupts_.total;
    }
    uint64_t interrupt_count(uint64_t address, uint32_t data) {
        const std::lock_guard lock(interrupts_.mutex);
        return interrupts_.by_message[{address, data}];
    }
    uint64_t vectors_made() {
        const std::lock_guard lock(interrupts_.mutex);
        return interrupts_.vectors_made;
    }
    bool line_level(uint32_t gsi) {
        const std::lock_guard lock(interrupts_.mutex);
        return interrupts_.levels[gsi];
    }

    bool refuse_vectors = false;
    int wrong_removals = 0;  // of doorbells that are not there
    std::map<uint32_t, uint32_t> pirq_routes;
    std::atomic<int> resets{0};
    std::atomic<int> shutdowns{0};

private:
    class Vector final : public MsiVector {
    public:
        explicit Vector(Interrupts& interrupts) : interrupts_(interrupts) {}
        Result<void> set_route(uint64_t address, uint32_t data) override {
            const std::lock_guard lock(interrupts_.mutex);
            message_ = {address, data};
            return {};
        }
        void trigger() override {
            const std::lock_guard lock(interrupts_.mutex);
            ++interrupts_.by_message[message_];
            ++interrupts_.total;
        }

    private:
        Interrupts& interrupts_;
        std::pair<uint64_t, uint32_t> message_{};
    };
    using MappedRanges = std::map<uint64_t, std::pair<std::span<std::byte>, GuestAccess>>;
    class Mapped final : public MappedMemory {
    public:
        Mapped(MappedRanges& ranges, uint64_t gpa) : ranges_(ranges), gpa_(gpa) {}
        ~Mapped() override { ranges_.erase(gpa_); }

    private:
        MappedRanges& ranges_;
        const uint64_t gpa_;
    };
    class Line final : public IrqLine {
    public:
        Line(Interrupts& interrupts, uint32_t gsi) : interrupts_(interrupts), gsi_(gsi) {}
        void set_level(bool asserted) override {
            const std::lock_guard lock(interrupts_.mutex);
            interrupts_.levels[gsi_] = asserted;
        }

    private:
        Interrupts& interrupts_;
        const uint32_t gsi_;
    };

    GuestMemory memory_;
    IoBus ports_;
    IoBus mmio_;
    Interrupts interrupts_;
    MappedRanges mapped_;
    mutable std::mutex mutex_;
    std::map<uint64_t, int> doorbells_;
};

}  // namespace kumoi::hypervisor
