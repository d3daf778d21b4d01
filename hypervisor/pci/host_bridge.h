// HostBridge: function 00.0, an Intel 82G33 ("Q35") memory controller hub as far as firmware looks
// at one: ids, PCIEXBAR, and PAM and SMRAM registers.
//
// PAM (0x90-0x96) and SMRAM (0x9d, 0x9e) are plain storage: the memory at 0xc0000-0xfffff is RAM
// always, holds a copy of the firmware's end at power-on, and is writable whatever PAM says.
// SeaBIOS finds PAM0 clear, runs its shadowing code from the flash below 4 GiB and copies itself
// down, which then changes nothing. There is no SMRAM. PCIEXBAR moves ECAM: the root follows it.
// Threading: the root serialises configuration cycles.
#pragma once

#include <cstdint>
#include <string>

#include "hypervisor/pci/pci_device.h"

namespace kumoi::hypervisor {

class HostBridge final : public PciDevice {
public:
    explicit HostBridge(uint64_t ecam_base);

    std::string name() const override { return "pci-host-bridge"; }
    uint32_t config_read(uint32_t offset, uint32_t width) override {
        return config_.read(offset, width);
    }
    void config_write(uint32_t offset, uint32_t width, uint32_t value) override {
        config_.write(offset, width, value);
    }
    void reset() override;
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

    // Where PCIEXBAR puts ECAM; 0 while it is off, or on for fewer than 256 buses.
    uint64_t ecam_base() const;

private:
    PciConfigSpace config_;
    const uint64_t ecam_base_;
};

}  // namespace kumoi::hypervisor
