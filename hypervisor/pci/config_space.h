// PciConfigSpace: the 256 bytes of one function's type 0 configuration header, as bytes plus a mask
// of the bits a guest may change (PCI Local Bus 3.0, chapter 6).
//
// BAR sizing needs no code: the address bits below a BAR's size are simply not writable, so writing
// all ones reads back the size mask. Extended space (offset 256 and up) reads as zero: no extended
// capabilities. Any offset and width is answered. Not thread safe: the root serialises config
// cycles.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace kumoi::hypervisor {

namespace pci {
constexpr uint32_t kCommand = 0x04;
constexpr uint32_t kStatus = 0x06;
constexpr uint32_t kHeaderType = 0x0e;
constexpr uint8_t kMultiFunction = 1u << 7;
constexpr uint32_t kBar0 = 0x10;
constexpr uint32_t kCapabilities = 0x34;
constexpr uint32_t kInterruptLine = 0x3c;
constexpr uint32_t kInterruptPin = 0x3d;
constexpr uint16_t kCommandMemory = 1u << 1;
constexpr uint16_t kCommandIntxDisable = 1u << 10;
constexpr uint8_t kCapabilityVendor = 0x09;
constexpr uint8_t kCapabilityMsix = 0x11;
constexpr unsigned kBarCount = 6;
constexpr unsigned kRom = 6;         // the expansion ROM's base register, counted after the BARs
constexpr unsigned kPlaceCount = 7;  // BARs and ROM
constexpr uint32_t kRomRegister = 0x30;
constexpr uint32_t kRomEnable = 1;
constexpr uint32_t kRomAddressMask = 0xffff'f800;
}  // namespace pci

struct PciIds {
    uint16_t vendor = 0xffff;
    uint16_t device = 0xffff;
    uint16_t subsystem_vendor = 0;
    uint16_t subsystem = 0;
    uint32_t class_code = 0;  // 24 bits: class, subclass, interface
    uint8_t revision = 0;
};

enum class BarWidth { Memory32, Memory64 };

class PciConfigSpace {
public:
    explicit PciConfigSpace(const PciIds& ids);

    // Declares a memory BAR; size is a power of two from 16 up to 2 GiB. Memory64 also takes index
    // + 1.
    void add_bar(unsigned index, uint64_t size, BarWidth width);
    // Declares the expansion ROM (§6.2.5.2), bar index pci::kRom; size is a power of two from 2 KiB
    // up to 16 MiB.
    void add_rom(uint64_t size);
    // Appends a capability. `body` follows the id and next bytes; `writable` masks it bit by bit
    // and may be shorter. Returns the capability's offset.
    uint8_t add_capability(uint8_t id, std::span<const uint8_t> body,
                           std::span<const uint8_t> writable = {});
    void set_interrupt(uint8_t pin, uint8_t line);  // pin 1 is INTA

    uint32_t read(uint32_t offset, uint32_t width) const;
    void write(uint32_t offset, uint32_t width, uint32_t value);

    uint64_t bar_size(unsigned index) const { return bar_sizes_[index]; }  // 0: no BAR starts here
    bool bar_is_64bit(unsigned index) const;
    uint64_t bar_base(unsigned index) const;
    bool bar_enabled(unsigned index) const;  // a ROM has a bit of its own beside the command's
    void set_bar_base(unsigned index, uint64_t base);
    uint16_t command() const;
    void reset_command();  // memory decoding and bus mastering off, INTx allowed

    // For the owner of the function: plain stores that ignore the guest's write mask.
    void set(uint32_t offset, uint32_t width, uint32_t value);
    void set_writable(uint32_t offset, uint32_t width, uint32_t mask);

    std::span<const uint8_t> bytes() const { return bytes_; }
    // Takes the bits a guest may change; what is fixed must be what this function has.
    Result<void> load(std::span<const std::byte> bytes);

private:
    std::array<uint8_t, 256> bytes_{};
    std::array<uint8_t, 256> writable_{};
    std::array<uint64_t, pci::kPlaceCount> bar_sizes_{};
    uint8_t capability_end_ = 0x40;
    uint8_t last_capability_link_ = static_cast<uint8_t>(pci::kCapabilities);
};

}  // namespace kumoi::hypervisor
