#include "hypervisor/kvm/irq_routes.h"

namespace kumoi::hypervisor {

namespace {

kvm_irq_routing_entry chip_route(uint32_t gsi, uint32_t chip, uint32_t pin) {
    kvm_irq_routing_entry entry{};
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = chip;
    entry.u.irqchip.pin = pin;
    return entry;
}

}  // namespace

std::vector<kvm_irq_routing_entry> IrqRoutes::fixed_entries() {
    constexpr uint32_t kIsaLines = 16;
    constexpr uint32_t kPinsPerPic = 8;
    constexpr uint32_t kCascadePin = 2;
    std::vector<kvm_irq_routing_entry> entries;
    for (uint32_t line = 0; line < kIsaLines; ++line) {
        if (line == kCascadePin) {
            continue;  // the slave PIC hangs here
        }
        const bool master = line < kPinsPerPic;
        entries.push_back(chip_route(line, master ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                                     line % kPinsPerPic));
    }
    for (uint32_t line = 0; line < kFirstMsiGsi; ++line) {
        if (line == kCascadePin) {
            continue;
        }
        // The timer's line 0 enters the IOAPIC at pin 2, as every PC and our MADT say.
        entries.push_back(chip_route(line, KVM_IRQCHIP_IOAPIC, line == 0 ? kCascadePin : line));
    }
    return entries;
}

Result<void> IrqRoutes::install_fixed() {
    const std::lock_guard lock(mutex_);
    return commit();
}

Result<uint32_t> IrqRoutes::allocate() {
    const std::lock_guard lock(mutex_);
    for (uint32_t gsi = kFirstMsiGsi; gsi < kGsisMax; ++gsi) {
        if (!used_[gsi]) {
            used_[gsi] = true;
            return gsi;
        }
    }
    return Error::exhausted("all {} message-signalled interrupts of the machine are in use",
                            kGsisMax - kFirstMsiGsi);
}

// The kernel keeps the stale route until the next commit; nothing can raise it once its irqfd is
// gone.
void IrqRoutes::free(uint32_t gsi) {
    const std::lock_guard lock(mutex_);
    used_[gsi] = false;
    messages_.erase(gsi);
}

Result<void> IrqRoutes::set_msi(uint32_t gsi, uint64_t address, uint32_t data) {
    const std::lock_guard lock(mutex_);
    const Message message{address, data};
    const auto found = messages_.find(gsi);
    if (found != messages_.end() && found->second == message) {
        return {};
    }
    const auto before = found == messages_.end() ? std::optional<Message>() : found->second;
    messages_[gsi] = message;
    auto committed = commit();
    if (!committed) {  // KVM refuses e.g. addresses outside 0xfee00000: keep what it has
        if (before) {
            messages_[gsi] = *before;
        } else {
            messages_.erase(gsi);
        }
    }
    return committed;
}

Result<void> IrqRoutes::commit() {
    std::vector<kvm_irq_routing_entry> entries = fixed_entries();
    for (const auto& [gsi, message] : messages_) {
        kvm_irq_routing_entry entry{};
        entry.gsi = gsi;
        entry.type = KVM_IRQ_ROUTING_MSI;
        entry.u.msi.address_lo = static_cast<uint32_t>(message.address);
        entry.u.msi.address_hi = static_cast<uint32_t>(message.address >> 32);
        entry.u.msi.data = message.data;
        entries.push_back(entry);
    }
    return vm_.set_gsi_routing(entries);
}

}  // namespace kumoi::hypervisor
