// PciRoot: the root complex with one bus: configuration cycles by CF8/CFC and by ECAM, the host
// bridge at 00:00.0, and the places of all BARs.
//
//     PciRoot root(platform, {.mmio32_base = 0xd000'0000, ...});
//     TRY(root.add({1, 0}, *disk));   // slot and function: from the board's layout
//     TRY(root.assign_bars());        // direct boot: no firmware does it
//     TRY(root.attach());             // puts CF8/CFC and ECAM on the buses
//
// A slot with more than one function says so in its header type (PCI Local Bus 3.0 §6.2.1); without
// function 0 nobody would look for the others, so that is refused.
//
// The guest may move BARs afterwards: a BAR inside a window is mapped while memory decoding is on;
// a place that overlaps something else is refused and the register rolled back to the last good
// place. Outside the windows nothing is decoded. Functions that do not exist read as all ones.
// Threading: config cycles come from any vCPU thread and are serialised by one mutex here.
// Devices must outlive the root, or be removed. After the PCI Firmware Spec 3.3 and the Q35 (82G33)
// host bridge ids.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/board/pci_layout.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/pci/host_bridge.h"
#include "hypervisor/pci/pci_device.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

struct PciRootConfig {
    uint64_t mmio32_base = 0xd000'0000;  // BARs below 4 GiB; must not hold ECAM, IOAPIC or LAPIC
    uint64_t mmio32_size = 0x1000'0000;
    uint64_t mmio64_base = 0;  // BARs above RAM; size 0: none
    uint64_t mmio64_size = 0;
    uint64_t ecam_base = 0xe000'0000;  // until PCIEXBAR moves it; 0: no ECAM
    bool bars_above_4gib = false;      // where assign_bars() puts 64-bit BARs
};

class PciRoot final : public Snapshottable {
public:
    static constexpr uint64_t kEcamSize = 1u << 20;  // one bus: 32 devices x 8 functions x 4 KiB
    static constexpr unsigned kSlotCount = board::kPciSlotCount;
    static constexpr unsigned kFunctionCount = board::kPciFunctionCount;

    PciRoot(Platform& platform, const PciRootConfig& config);
    ~PciRoot() override;
    PciRoot(const PciRoot&) = delete;
    PciRoot& operator=(const PciRoot&) = delete;

    // Refuses a taken place and slot 0, which is the host bridge's.
    Result<void> add(PciAddress at, PciDevice& device);
    // Takes the function off the bus. With all vCPUs parked: none may be inside the function.
    Result<void> remove(PciAddress at);
    // Gives every BAR a place in its window and turns memory decoding on.
    Result<void> assign_bars();
    Result<void> attach();
    // Machine reset: every function to its power-on state; BARs assigned again if they were before.
    Result<void> reset();

    // The address register and every function: its configuration space and its own state.
    std::string section_name() const override { return "pci"; }
    void save(SectionWriter& out) const override;
    std::vector<std::string> function_names() const;  // "0b.0 disk0", by place
    // Every reason why load() would refuse: functions that are missing here, or there.
    Result<std::vector<std::string>> check(SectionReader& in) const;
    // With all functions paused. BARs and ECAM end up where the guest had put them.
    Result<void> load(SectionReader& in) override;

    uint32_t config_read(unsigned slot, unsigned function, uint32_t offset, uint32_t width);
    void config_write(unsigned slot, unsigned function, uint32_t offset, uint32_t width,
                      uint32_t value);
    // Where the BAR is mapped now; 0 when it is not.
    uint64_t bar_address(PciAddress at, unsigned index);
    uint64_t highest_bar_end();  // of the mapped BARs above 4 GiB; 0: none
    uint64_t ecam_address();     // where ECAM is now; 0: off
    const PciRootConfig& config() const { return config_; }

private:
    struct Function {
        PciDevice* device = nullptr;
        std::array<uint64_t, pci::kPlaceCount> mapped{};     // 0: not on the bus
        std::array<uint64_t, pci::kPlaceCount> last_good{};  // last place that was accepted
    };
    class PortAccess;
    class EcamAccess;
    void follow_ecam();
    Result<void> load_function(SectionReader& in);
    uint32_t config_address() const;
    void set_config_address(uint32_t address);
    static bool exists(unsigned slot, unsigned function);
    Function& at(unsigned slot, unsigned function);
    uint32_t with_multi_function_bit(unsigned slot, uint32_t offset, uint32_t width,
                                     uint32_t value) const;
    Result<void> check_function_zero() const;
    bool inside_window(uint64_t base, uint64_t size) const;
    Result<void> assign_bars_locked();
    Result<void> assign_bar(Function& function, unsigned index, uint64_t& next32, uint64_t& next64);
    void follow_bars(Function& function);
    void follow_bar(Function& function, unsigned index, bool decoding);
    bool map_bar(Function& function, unsigned index, uint64_t base);
    void unmap_bar(Function& function, unsigned index);

    Platform& platform_;
    const PciRootConfig config_;
    mutable std::mutex mutex_;  // guards everything below
    std::unique_ptr<HostBridge> bridge_;
    std::array<Function, kSlotCount * kFunctionCount> functions_;  // by slot * 8 + function
    std::array<uint8_t, kSlotCount> present_{};                    // a bit for each function
    bool assigned_ = false;
    bool attached_ = false;
    uint64_t ecam_mapped_ = 0;
    std::unique_ptr<PortAccess> ports_;
    std::unique_ptr<EcamAccess> ecam_;
};

}  // namespace kumoi::hypervisor
