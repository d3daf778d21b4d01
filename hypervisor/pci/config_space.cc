#include "hypervisor/pci/config_space.h"

#include <bit>

#include "base/assert.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint32_t kStatusCapabilityList = 1u << 4;
constexpr uint32_t kBarType64 = 0b100;  // §6.2.5.1: memory, anywhere in 64-bit space

constexpr uint32_t bar_offset(unsigned index) {
    return index == pci::kRom ? pci::kRomRegister : pci::kBar0 + 4 * index;
}

}  // namespace

PciConfigSpace::PciConfigSpace(const PciIds& ids) {
    set(0x00, 2, ids.vendor);
    set(0x02, 2, ids.device);
    set(0x08, 1, ids.revision);
    set(0x09, 1, ids.class_code & 0xff);
    set(0x0a, 2, ids.class_code >> 8);
    set(0x2c, 2, ids.subsystem_vendor);
    set(0x2e, 2, ids.subsystem);
    // I/O and memory decoding, bus mastering, parity, SERR#, INTx disable.
    set_writable(pci::kCommand, 2, 0x0547);
    set_writable(0x0c, 2, 0xffff);  // cache line size, latency timer: plain storage
    set_writable(pci::kInterruptLine, 1, 0xff);
}

void PciConfigSpace::add_bar(unsigned index, uint64_t size, BarWidth width) {
    KUMOI_ASSERT(index + (width == BarWidth::Memory64 ? 1 : 0) < pci::kBarCount);
    KUMOI_ASSERT(std::has_single_bit(size));
    KUMOI_ASSERT(size >= 16);
    KUMOI_ASSERT(size <= 1ull << 31);
    bar_sizes_[index] = size;
    set_writable(bar_offset(index), 4, ~static_cast<uint32_t>(size - 1));
    if (width == BarWidth::Memory64) {
        set(bar_offset(index), 4, kBarType64);
        set_writable(bar_offset(index + 1), 4, ~0u);
    }
}

void PciConfigSpace::add_rom(uint64_t size) {
    KUMOI_ASSERT(std::has_single_bit(size));
    KUMOI_ASSERT(size >= 2u << 10);
    KUMOI_ASSERT(size <= 16u << 20);
    bar_sizes_[pci::kRom] = size;
    set_writable(pci::kRomRegister, 4, ~static_cast<uint32_t>(size - 1) | pci::kRomEnable);
}

uint8_t PciConfigSpace::add_capability(uint8_t id, std::span<const uint8_t> body,
                                       std::span<const uint8_t> writable) {
    KUMOI_ASSERT(writable.size() <= body.size());
    KUMOI_ASSERT(capability_end_ + 2 + body.size() <= bytes_.size());
    const uint8_t offset = capability_end_;
    bytes_[last_capability_link_] = offset;
    last_capability_link_ = offset + 1;
    bytes_[offset] = id;
    for (size_t i = 0; i < body.size(); ++i) {
        bytes_[offset + 2 + i] = body[i];
        writable_[offset + 2 + i] = i < writable.size() ? writable[i] : 0;
    }
    // Capabilities start on a doubleword (§6.7).
    capability_end_ = static_cast<uint8_t>((offset + 2 + body.size() + 3) & ~size_t{3});
    set(pci::kStatus, 2, kStatusCapabilityList);
    return offset;
}

void PciConfigSpace::set_interrupt(uint8_t pin, uint8_t line) {
    set(pci::kInterruptPin, 1, pin);
    set(pci::kInterruptLine, 1, line);
}

uint32_t PciConfigSpace::read(uint32_t offset, uint32_t width) const {
    uint32_t value = 0;
    for (uint32_t i = 0; i < width && i < 4; ++i) {
        const uint32_t at = offset + i;
        const uint32_t byte = at < bytes_.size() ? bytes_[at] : 0;
        value |= byte << (8 * i);
    }
    return value;
}

void PciConfigSpace::write(uint32_t offset, uint32_t width, uint32_t value) {
    for (uint32_t i = 0; i < width && i < 4; ++i) {
        const uint32_t at = offset + i;
        if (at >= bytes_.size()) {
            return;
        }
        const auto byte = static_cast<uint8_t>(value >> (8 * i));
        bytes_[at] = static_cast<uint8_t>((bytes_[at] & ~writable_[at]) | (byte & writable_[at]));
    }
}

bool PciConfigSpace::bar_is_64bit(unsigned index) const {
    return index != pci::kRom && (read(bar_offset(index), 4) & kBarType64) != 0;
}

uint64_t PciConfigSpace::bar_base(unsigned index) const {
    if (index == pci::kRom) {
        return read(pci::kRomRegister, 4) & pci::kRomAddressMask;
    }
    uint64_t base = read(bar_offset(index), 4) & ~0xfu;
    if (bar_is_64bit(index)) {
        base |= static_cast<uint64_t>(read(bar_offset(index + 1), 4)) << 32;
    }
    return base;
}

bool PciConfigSpace::bar_enabled(unsigned index) const {
    return index != pci::kRom || (read(pci::kRomRegister, 4) & pci::kRomEnable) != 0;
}

void PciConfigSpace::set_bar_base(unsigned index, uint64_t base) {
    if (index == pci::kRom) {
        write(pci::kRomRegister, 4,
              static_cast<uint32_t>(base) | (read(pci::kRomRegister, 4) & pci::kRomEnable));
        return;
    }
    write(bar_offset(index), 4, static_cast<uint32_t>(base));
    if (bar_is_64bit(index)) {
        write(bar_offset(index + 1), 4, static_cast<uint32_t>(base >> 32));
    }
}

uint16_t PciConfigSpace::command() const {
    return static_cast<uint16_t>(read(pci::kCommand, 2));
}

void PciConfigSpace::reset_command() {
    set(pci::kCommand, 2, 0);
}

void PciConfigSpace::set(uint32_t offset, uint32_t width, uint32_t value) {
    KUMOI_ASSERT(offset + width <= bytes_.size());
    for (uint32_t i = 0; i < width; ++i) {
        bytes_[offset + i] = static_cast<uint8_t>(value >> (8 * i));
    }
}

void PciConfigSpace::set_writable(uint32_t offset, uint32_t width, uint32_t mask) {
    KUMOI_ASSERT(offset + width <= bytes_.size());
    for (uint32_t i = 0; i < width; ++i) {
        writable_[offset + i] = static_cast<uint8_t>(mask >> (8 * i));
    }
}

Result<void> PciConfigSpace::load(std::span<const std::byte> bytes) {
    if (bytes.size() != bytes_.size()) {
        return Error::make(ErrorCode::Corrupt, "configuration space of {} bytes, not {}",
                           bytes.size(), bytes_.size());
    }
    for (size_t at = 0; at < bytes_.size(); ++at) {
        const auto saved = static_cast<uint8_t>(bytes[at]);
        if (((saved ^ bytes_[at]) & ~writable_[at]) != 0) {
            return Error::make(ErrorCode::Unsupported,
                               "configuration byte {:#x} was {:#x} and is {:#x} in this machine",
                               at, saved, bytes_[at]);
        }
    }
    for (size_t at = 0; at < bytes_.size(); ++at) {
        bytes_[at] = static_cast<uint8_t>(bytes[at]);
    }
    return {};
}

}  // namespace kumoi::hypervisor
