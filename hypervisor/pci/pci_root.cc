#include "hypervisor/pci/pci_root.h"

#include <algorithm>
#include <atomic>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kConfigPorts = 0xcf8;  // address at CF8, data at CFC-CFF
constexpr uint32_t kAddressEnable = 1u << 31;
constexpr uint64_t k4Gib = 1ull << 32;
// The reset control register shares the address register's ports (ICH9 datasheet §13.7.5).
constexpr uint64_t kResetOffset = 1;
constexpr uint8_t kResetCpu = 1u << 2;

uint64_t align_up(uint64_t value, uint64_t alignment) {
    return (value + alignment - 1) & ~(alignment - 1);
}

uint32_t little_endian(std::span<const uint8_t> data) {
    uint32_t value = 0;
    for (size_t i = 0; i < data.size() && i < 4; ++i) {
        value |= static_cast<uint32_t>(data[i]) << (8 * i);
    }
    return value;
}

void put_little_endian(std::span<uint8_t> data, uint32_t value) {
    for (size_t i = 0; i < data.size(); ++i) {
        data[i] = i < 4 ? static_cast<uint8_t>(value >> (8 * i)) : 0xff;
    }
}

}  // namespace

// CONFIG_ADDRESS and CONFIG_DATA (PCI Local Bus 3.0 §3.2.2.3.2). The address register answers only
// to whole doubleword accesses; a byte written to CF9 may reset the machine.
class PciRoot::PortAccess final : public IoDevice {
public:
    explicit PortAccess(PciRoot& root) : root_(root) {}
    std::string name() const override { return "pci-config-ports"; }

    void io_read(uint64_t offset, std::span<uint8_t> data) override {
        std::fill(data.begin(), data.end(), uint8_t{0xff});
        const uint32_t address = address_.load();
        if (offset == 0 && data.size() == 4) {
            put_little_endian(data, address);
        } else if (selects(offset, data.size(), address)) {
            put_little_endian(
                data, root_.config_read(address >> 11 & 0x1f, address >> 8 & 7,
                                        (address & 0xfc) + static_cast<uint32_t>(offset - 4),
                                        static_cast<uint32_t>(data.size())));
        }
    }

    void io_write(uint64_t offset, std::span<const uint8_t> data) override {
        const uint32_t address = address_.load();
        if (offset == 0 && data.size() == 4) {
            address_.store(little_endian(data) & 0x80ff'fffc);
        } else if (offset == kResetOffset && data.size() == 1) {
            if ((data[0] & kResetCpu) != 0) {
                root_.platform_.request_reset();
            }
        } else if (selects(offset, data.size(), address)) {
            root_.config_write(address >> 11 & 0x1f, address >> 8 & 7,
                               (address & 0xfc) + static_cast<uint32_t>(offset - 4),
                               static_cast<uint32_t>(data.size()), little_endian(data));
        }
    }

private:
    static bool selects(uint64_t offset, size_t width, uint32_t address) {
        const bool bus0 = (address >> 16 & 0xff) == 0;
        return offset >= 4 && offset + width <= 8 && (address & kAddressEnable) != 0 && bus0;
    }
    PciRoot& root_;
    std::atomic<uint32_t> address_{0};
};

// ECAM (PCIe base specification §7.2.2): bus, device, function and register are address bits.
class PciRoot::EcamAccess final : public IoDevice {
public:
    explicit EcamAccess(PciRoot& root) : root_(root) {}
    std::string name() const override { return "pci-ecam"; }

    void io_read(uint64_t offset, std::span<uint8_t> data) override {
        for (size_t done = 0; done < data.size(); done += 4) {
            const auto part = data.subspan(done, std::min<size_t>(4, data.size() - done));
            const uint64_t at = offset + done;
            put_little_endian(part, root_.config_read(at >> 15 & 0x1f, at >> 12 & 7, at & 0xfff,
                                                      static_cast<uint32_t>(part.size())));
        }
    }

    void io_write(uint64_t offset, std::span<const uint8_t> data) override {
        for (size_t done = 0; done < data.size(); done += 4) {
            const auto part = data.subspan(done, std::min<size_t>(4, data.size() - done));
            const uint64_t at = offset + done;
            root_.config_write(at >> 15 & 0x1f, at >> 12 & 7, at & 0xfff,
                               static_cast<uint32_t>(part.size()), little_endian(part));
        }
    }

private:
    PciRoot& root_;
};

PciRoot::PciRoot(Platform& platform, const PciRootConfig& config)
    : platform_(platform),
      config_(config),
      bridge_(std::make_unique<HostBridge>(config.ecam_base)),
      ports_(std::make_unique<PortAccess>(*this)),
      ecam_(std::make_unique<EcamAccess>(*this)) {
    slots_[0].device = bridge_.get();
}

PciRoot::~PciRoot() {
    const std::lock_guard lock(mutex_);
    for (Slot& slot : slots_) {
        for (unsigned index = 0; index < pci::kBarCount; ++index) {
            unmap_bar(slot, index);
        }
    }
    if (attached_) {
        platform_.port_bus().remove(kConfigPorts);
        if (ecam_mapped_ != 0) {
            platform_.mmio_bus().remove(ecam_mapped_);
        }
    }
}

Result<void> PciRoot::add(unsigned slot, PciDevice& device) {
    const std::lock_guard lock(mutex_);
    if (slot == 0 || slot >= kSlotCount) {
        return Error::invalid("PCI slot {} of {} is not between 1 and {}", slot, device.name(),
                              kSlotCount - 1);
    }
    if (slots_[slot].device != nullptr) {
        return Error::invalid("PCI slot {} is taken by {} and cannot hold {}", slot,
                              slots_[slot].device->name(), device.name());
    }
    slots_[slot].device = &device;
    return {};
}

Result<void> PciRoot::attach() {
    const std::lock_guard lock(mutex_);
    TRY(platform_.port_bus().add(kConfigPorts, 8, *ports_));
    if (config_.ecam_base != 0) {
        auto added = platform_.mmio_bus().add(config_.ecam_base, kEcamSize, *ecam_);
        ecam_mapped_ = added.ok() ? config_.ecam_base : 0;
        if (!added.ok()) {
            platform_.port_bus().remove(kConfigPorts);
            return added;
        }
    }
    attached_ = true;
    return {};
}

Result<void> PciRoot::assign_bars() {
    const std::lock_guard lock(mutex_);
    assigned_ = true;
    return assign_bars_locked();
}

Result<void> PciRoot::reset() {
    const std::lock_guard lock(mutex_);
    for (Slot& slot : slots_) {
        if (slot.device == nullptr) {
            continue;
        }
        for (unsigned index = 0; index < pci::kBarCount; ++index) {
            unmap_bar(slot, index);
        }
        slot.last_good = {};
        slot.device->reset();
    }
    follow_ecam();
    return assigned_ ? assign_bars_locked() : Result<void>{};
}

uint32_t PciRoot::config_read(unsigned slot, unsigned function, uint32_t offset, uint32_t width) {
    const std::lock_guard lock(mutex_);
    if (slot >= kSlotCount || function != 0 || slots_[slot].device == nullptr) {
        return width >= 4 ? ~0u : (1u << (8 * width)) - 1;
    }
    return slots_[slot].device->config_read(offset, width);
}

void PciRoot::config_write(unsigned slot, unsigned function, uint32_t offset, uint32_t width,
                           uint32_t value) {
    const std::lock_guard lock(mutex_);
    if (slot >= kSlotCount || function != 0 || slots_[slot].device == nullptr) {
        return;
    }
    slots_[slot].device->config_write(offset, width, value);
    if (slot == 0) {
        follow_ecam();
    }
    follow_bars(slots_[slot]);
}

uint64_t PciRoot::bar_address(unsigned slot, unsigned index) {
    const std::lock_guard lock(mutex_);
    return slot < kSlotCount && index < pci::kBarCount ? slots_[slot].mapped[index] : 0;
}

uint64_t PciRoot::ecam_address() {
    const std::lock_guard lock(mutex_);
    return ecam_mapped_;
}

// Firmware moves ECAM by PCIEXBAR. A place that is taken turns it off: CF8/CFC still reach all.
void PciRoot::follow_ecam() {
    const uint64_t wanted = bridge_->ecam_base();
    if (!attached_ || config_.ecam_base == 0 || wanted == ecam_mapped_) {
        return;
    }
    if (ecam_mapped_ != 0) {
        platform_.mmio_bus().remove(ecam_mapped_);
        ecam_mapped_ = 0;
    }
    if (wanted == 0) {
        return;
    }
    if (auto added = platform_.mmio_bus().add(wanted, kEcamSize, *ecam_); !added) {
        log_warn("pci", "ECAM cannot move there",
                 {{"address", wanted}, {"reason", added.error().text()}});
        return;
    }
    ecam_mapped_ = wanted;
}

bool PciRoot::inside_window(uint64_t base, uint64_t size) const {
    const auto inside = [&](uint64_t window, uint64_t window_size) {
        return base >= window && size <= window_size && base - window <= window_size - size;
    };
    return inside(config_.mmio32_base, config_.mmio32_size) ||
           inside(config_.mmio64_base, config_.mmio64_size);
}

Result<void> PciRoot::assign_bars_locked() {
    uint64_t next32 = config_.mmio32_base;
    uint64_t next64 = config_.mmio64_base;
    for (Slot& slot : slots_) {
        PciConfigSpace* space = slot.device != nullptr ? slot.device->config_space() : nullptr;
        if (space == nullptr) {
            continue;
        }
        for (unsigned index = 0; index < pci::kBarCount; ++index) {
            if (space->bar_size(index) != 0) {
                TRY(assign_bar(slot, index, next32, next64));
            }
        }
        slot.device->config_write(pci::kCommand, 2, space->command() | pci::kCommandMemory);
        follow_bars(slot);
    }
    return {};
}

Result<void> PciRoot::assign_bar(Slot& slot, unsigned index, uint64_t& next32, uint64_t& next64) {
    PciConfigSpace& space = *slot.device->config_space();
    const uint64_t size = space.bar_size(index);
    const bool high = config_.bars_above_4gib && space.bar_is_64bit(index);
    uint64_t& next = high ? next64 : next32;
    const uint64_t base = align_up(next, size);
    if (!inside_window(base, size) || (!high && base + size > k4Gib)) {
        return Error::exhausted("PCI BAR {} of {} needs {} bytes and its window has no room left",
                                index, slot.device->name(), size)
            .with_hint("use fewer devices or a larger window");
    }
    space.set_bar_base(index, base);
    next = base + size;
    return {};
}

void PciRoot::follow_bars(Slot& slot) {
    PciConfigSpace* space = slot.device->config_space();
    if (space == nullptr) {
        return;
    }
    const bool decoding = (space->command() & pci::kCommandMemory) != 0;
    for (unsigned index = 0; index < pci::kBarCount; ++index) {
        if (space->bar_size(index) != 0) {
            follow_bar(slot, index, decoding);
        }
    }
}

void PciRoot::follow_bar(Slot& slot, unsigned index, bool decoding) {
    PciConfigSpace& space = *slot.device->config_space();
    const uint64_t base = space.bar_base(index);
    const uint64_t wanted = decoding && inside_window(base, space.bar_size(index)) ? base : 0;
    if (wanted == slot.mapped[index]) {
        return;
    }
    unmap_bar(slot, index);
    if (wanted == 0 || map_bar(slot, index, wanted)) {
        return;
    }
    const uint64_t good = slot.last_good[index];
    log_warn("pci", "BAR move refused: the place is taken",
             {{"device", slot.device->name()}, {"bar", index}, {"address", wanted}});
    space.set_bar_base(index, good);
    if (good != 0) {
        map_bar(slot, index, good);
    }
}

bool PciRoot::map_bar(Slot& slot, unsigned index, uint64_t base) {
    IoDevice* target = slot.device->bar(index);
    const uint64_t size = slot.device->config_space()->bar_size(index);
    if (target == nullptr || !platform_.mmio_bus().add(base, size, *target).ok()) {
        return false;
    }
    slot.mapped[index] = base;
    slot.last_good[index] = base;
    slot.device->bar_moved(index, base);
    return true;
}

void PciRoot::unmap_bar(Slot& slot, unsigned index) {
    if (slot.mapped[index] == 0) {
        return;
    }
    platform_.mmio_bus().remove(slot.mapped[index]);
    slot.mapped[index] = 0;
    slot.device->bar_moved(index, 0);
}

}  // namespace kumoi::hypervisor
