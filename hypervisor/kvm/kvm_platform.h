// KvmPlatform: the machine as its devices see it, over KVM (hypervisor/board/platform.h).
//
// Owns the two buses and the interrupt routes; guest memory and the VM belong to the Vmm, which
// also supplies what to do about a reset or shutdown request. Any thread.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>

#include "hypervisor/board/platform.h"
#include "hypervisor/kvm/irq_lines.h"
#include "hypervisor/kvm/irq_routes.h"
#include "hypervisor/kvm/kvm.h"
#include "hypervisor/limits/report_limit.h"

namespace kumoi::hypervisor {

class KvmPlatform final : public Platform {
public:
    struct Requests {  // called from any thread; must not block
        std::function<void()> reset;
        std::function<void()> shutdown;
    };
    KvmPlatform(KvmVm& vm, GuestMemory& memory, Requests requests);

    Result<void> install_fixed_routes() { return routes_.install_fixed(); }
    GuestMemory& memory() override { return memory_; }
    IoBus& port_bus() override { return port_bus_; }
    IoBus& mmio_bus() override { return mmio_bus_; }
    Result<std::unique_ptr<MsiVector>> create_msi_vector() override;
    Result<std::unique_ptr<IrqLine>> irq_line(uint32_t gsi) override { return lines_.open(gsi); }
    void route_pirq(uint32_t pirq, uint32_t isa_irq) override { lines_.route_pirq(pirq, isa_irq); }
    Result<std::unique_ptr<MappedMemory>> map_memory(uint64_t gpa, std::span<std::byte> host,
                                                     GuestAccess access) override;
    Result<void> add_doorbell(uint64_t gpa, int eventfd) override;
    void remove_doorbell(uint64_t gpa, int eventfd) override;
    void request_reset() override { requests_.reset(); }
    void request_shutdown() override { requests_.shutdown(); }

private:
    class Mapped;
    KvmVm& vm_;
    GuestMemory& memory_;
    Requests requests_;
    IrqRoutes routes_;
    IrqLines lines_;
    std::mutex slots_mutex_;
    std::set<uint32_t> slots_;  // memory slots of map_memory()
    ReportLimit reports_;       // of removals that KVM refuses
    IoBus port_bus_;
    IoBus mmio_bus_;
};

}  // namespace kumoi::hypervisor
