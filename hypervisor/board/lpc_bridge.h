// LpcBridge: function 1f.0, the ISA side of an Intel ICH9 as far as firmware and kernels look at
// it, and SmiRegisters, SMI_EN and SMI_STS in its power management block.
//
// PMBASE is fixed at board::kPmBase and always decoded: SeaBIOS and OVMF put it there. PIRQA-D
// (0x60-0x63) route the four PCI interrupt lines to the 8259s for systems that do not use the I/O
// APIC; `route` hears of each change. SMI_EN reads APMC_EN set: firmware takes that for "SMM was
// set up before" and stays out of it; there is no SMM on this board. Threading: the root serialises
// configuration cycles; SmiRegisters has no state.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "hypervisor/board/io_bus.h"
#include "hypervisor/pci/pci_device.h"

namespace kumoi::hypervisor {

class LpcBridge final : public PciDevice {
public:
    // PIRQ line (0 is A) to ISA interrupt; 0: to none.
    using Route = std::function<void(uint32_t pirq, uint32_t isa_irq)>;
    explicit LpcBridge(Route route);

    std::string name() const override { return "lpc"; }
    uint32_t config_read(uint32_t offset, uint32_t width) override {
        return config_.read(offset, width);
    }
    void config_write(uint32_t offset, uint32_t width, uint32_t value) override;
    void reset() override;
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

private:
    void follow_routes();

    PciConfigSpace config_;
    Route route_;
};

class SmiRegisters final : public IoDevice {
public:
    std::string name() const override { return "smi"; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) override {}
};

}  // namespace kumoi::hypervisor
