// BochsDisplay: the display adapter that stock firmware and kernels drive without a word from us:
// PCI 1234:1111, a linear framebuffer in BAR 0 and the Bochs "dispi" registers in BAR 2.
//
// The expansion ROM is firmware's way to draw text; what it holds is the caller's business.
// BAR 2 (4 KiB): 0x000 EDID (128 bytes, read only), 0x400 VGA ports (accepted, without meaning),
// 0x500 dispi registers, 16 bits each, 0x600 the extension's registers: its size and the byte order
// of the framebuffer (little endian only). Only 32 bits a pixel are shown; a mode that does not fit
// the video memory or is larger than kDisplay*Max is not shown and reads back as what it was set
// to, as on the original. Sources: the Bochs VBE display description, QEMU's docs/specs/ standard-
// vga. Text modes do not exist: firmware draws text (vgabios-bochs-display). Threading: registers
// by vCPU threads, the picture by the viewers' thread; one lock, and video memory that anyone may
// touch at any time.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/display/display_source.h"
#include "hypervisor/limits/report_limit.h"
#include "hypervisor/pci/pci_device.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

struct BochsDisplayConfig {
    std::string name = "display";
    uint64_t memory_bytes = 16u << 20;  // a power of two, 1 to 64 MiB
    uint32_t width = 1280;              // what the EDID prefers
    uint32_t height = 800;
    std::string rom;                     // content of the expansion ROM; empty: none
    int memory_file = -1;                // shared memory of that size; -1: memory of its own
    std::function<bool()> memory_stays;  // true: a saved state is without it
};

constexpr size_t kOptionRomSizeMax = 256u << 10;

class BochsDisplay final : public PciDevice, public DisplaySource {
public:
    static Result<std::unique_ptr<BochsDisplay>> create(Platform& platform,
                                                        const BochsDisplayConfig& config);
    ~BochsDisplay() override;

    std::string name() const override { return config_.name; }
    uint32_t config_read(uint32_t offset, uint32_t width) override;
    void config_write(uint32_t offset, uint32_t width, uint32_t value) override;
    void reset() override;
    PciConfigSpace* config_space() override { return &space_; }
    IoDevice* bar(unsigned index) override;
    void bar_moved(unsigned index, uint64_t base) override;

    DisplayMode mode() const override;
    bool read_row(const DisplayMode& mode, uint32_t y, std::span<uint32_t> out) const override;

    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

private:
    static constexpr size_t kDispiCount = 11;
    class WindowAccess;
    class Registers;
    // A piece of memory behind a BAR: mapped while the platform lets it, else reached by exits.
    struct Window {
        Mapping memory;
        GuestAccess access;
        std::unique_ptr<IoDevice> device;
        std::unique_ptr<MappedMemory> mapped;  // set under the root's lock
    };
    BochsDisplay(Platform& platform, const BochsDisplayConfig& config);
    Result<void> create_memory();
    void move_window(Window& window, uint64_t base);
    uint16_t read_dispi(size_t index) const;
    void write_dispi(size_t index, uint16_t value);
    uint8_t register_byte(uint64_t offset) const;
    DisplayMode mode_locked() const;
    uint64_t row_start_locked(uint32_t y) const;

    Platform& platform_;
    const BochsDisplayConfig config_;
    PciConfigSpace space_;
    const std::array<uint8_t, 128> edid_;
    Window video_;
    Window rom_;
    Mapping& memory_ = video_.memory;
    std::unique_ptr<Registers> registers_;
    ReportLimit map_reports_;   // a guest may put the window onto its RAM again and again
    mutable std::mutex mutex_;  // guards dispi_
    std::array<uint16_t, kDispiCount> dispi_{};
};

// EDID 1.4 of a monitor that prefers `width` x `height` at 60 Hz (VESA E-EDID A.2).
std::array<uint8_t, 128> make_edid(uint32_t width, uint32_t height);

}  // namespace kumoi::hypervisor
