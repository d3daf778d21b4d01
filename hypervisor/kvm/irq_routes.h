// IrqRoutes: the table that leads interrupt numbers (GSIs) to the PICs, the IOAPIC and MSI
// messages.
//
// GSIs 0-23 are the board's fixed lines; message-signalled vectors get numbers above them, lazily,
// so a guest that uses three vectors costs three routes. Thread safe. The kernel copies the whole
// table at each change and waits for readers, so an unchanged route is not set again.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "base/result.h"
#include "hypervisor/kvm/kvm.h"

namespace kumoi::hypervisor {

class IrqRoutes {
public:
    static constexpr uint32_t kFirstMsiGsi = 24;
    static constexpr uint32_t kGsisMax = 1024;  // KVM_MAX_IRQ_ROUTES is 4096

    explicit IrqRoutes(KvmVm& vm) : vm_(vm) {}
    // The board's lines as a PC wires them; to be called once before the first vCPU runs.
    Result<void> install_fixed();
    Result<uint32_t> allocate();
    void free(uint32_t gsi);
    Result<void> set_msi(uint32_t gsi, uint64_t address, uint32_t data);

    // The fixed part of the table, as install_fixed() gives it to KVM.
    static std::vector<kvm_irq_routing_entry> fixed_entries();

private:
    struct Message {
        uint64_t address;
        uint32_t data;
        bool operator==(const Message&) const = default;
    };
    Result<void> commit();  // with mutex_ held

    KvmVm& vm_;
    std::mutex mutex_;
    std::vector<bool> used_ = std::vector<bool>(kGsisMax, false);
    std::map<uint32_t, Message> messages_;
};

}  // namespace kumoi::hypervisor
