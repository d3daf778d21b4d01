#include "hypervisor/pci/pci_root.h"

#include <algorithm>
#include <atomic>

#include "base/log.h"
#include "hypervisor/limits/report_limit.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kConfigPorts = 0xcf8;  // address at CF8, data at CFC-CFF
constexpr uint32_t kAddressEnable = 1u << 31;
constexpr uint64_t k4Gib = 1ull << 32;
// The reset control register shares the address register's ports (ICH9 datasheet §13.7.5).
constexpr uint64_t kResetOffset = 1;
constexpr uint8_t kResetCpu = 1u << 2;

// One for the process, which has one machine: refusals of all functions together.
ReportLimit& reports() {
    static ReportLimit limit;
    return limit;
}

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

    uint32_t address() const { return address_; }
    void set_address(uint32_t address) { address_ = address & 0x80ff'fffc; }

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
    functions_[0].device = bridge_.get();
    present_[0] = 1;
}

PciRoot::~PciRoot() {
    const std::lock_guard lock(mutex_);
    for (Function& function : functions_) {
        for (unsigned index = 0; index < pci::kPlaceCount; ++index) {
            unmap_bar(function, index);
        }
    }
    if (attached_) {
        platform_.port_bus().remove(kConfigPorts);
        if (ecam_mapped_ != 0) {
            platform_.mmio_bus().remove(ecam_mapped_);
        }
    }
}

Result<void> PciRoot::add(PciAddress place, PciDevice& device) {
    const std::lock_guard lock(mutex_);
    if (place.slot == 0 || !exists(place.slot, place.function)) {
        return Error::invalid("PCI slot {} function {} of {} is not between 1.0 and {}.{}",
                              place.slot, place.function, device.name(), kSlotCount - 1,
                              kFunctionCount - 1);
    }
    Function& function = at(place.slot, place.function);
    if (function.device != nullptr) {
        return Error::invalid("PCI slot {} function {} is taken by {} and cannot hold {}",
                              place.slot, place.function, function.device->name(), device.name());
    }
    function.device = &device;
    present_[place.slot] |= static_cast<uint8_t>(1u << place.function);
    return {};
}

Result<void> PciRoot::remove(PciAddress place) {
    const std::lock_guard lock(mutex_);
    if (place.slot == 0 || !exists(place.slot, place.function) ||
        at(place.slot, place.function).device == nullptr) {
        return Error::not_found("PCI slot {} function {} holds nothing that could be removed",
                                place.slot, place.function);
    }
    Function& function = at(place.slot, place.function);
    for (unsigned index = 0; index < pci::kPlaceCount; ++index) {
        unmap_bar(function, index);
    }
    function = {};
    present_[place.slot] &= static_cast<uint8_t>(~(1u << place.function));
    return {};
}

bool PciRoot::exists(unsigned slot, unsigned function) {
    return slot < kSlotCount && function < kFunctionCount;
}

PciRoot::Function& PciRoot::at(unsigned slot, unsigned function) {
    return functions_[slot * kFunctionCount + function];
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
    for (Function& function : functions_) {
        if (function.device == nullptr) {
            continue;
        }
        for (unsigned index = 0; index < pci::kPlaceCount; ++index) {
            unmap_bar(function, index);
        }
        function.last_good = {};
        function.device->reset();
    }
    follow_ecam();
    return assigned_ ? assign_bars_locked() : Result<void>{};
}

uint32_t PciRoot::config_read(unsigned slot, unsigned function, uint32_t offset, uint32_t width) {
    const std::lock_guard lock(mutex_);
    PciDevice* device = exists(slot, function) ? at(slot, function).device : nullptr;
    if (device == nullptr) {
        return width >= 4 ? ~0u : (1u << (8 * width)) - 1;
    }
    return with_multi_function_bit(slot, offset, width, device->config_read(offset, width));
}

void PciRoot::config_write(unsigned slot, unsigned function, uint32_t offset, uint32_t width,
                           uint32_t value) {
    const std::lock_guard lock(mutex_);
    if (!exists(slot, function) || at(slot, function).device == nullptr) {
        return;
    }
    at(slot, function).device->config_write(offset, width, value);
    if (slot == 0) {
        follow_ecam();
    }
    follow_bars(at(slot, function));
}

// PCI Local Bus 3.0 §6.2.1: bit 7 of the header type, in every function of the slot as hardware
// has it.
uint32_t PciRoot::with_multi_function_bit(unsigned slot, uint32_t offset, uint32_t width,
                                          uint32_t value) const {
    const bool several = (present_[slot] & ~1u) != 0;
    const bool covered = offset <= pci::kHeaderType && pci::kHeaderType < offset + width;
    return several && covered
               ? value | uint32_t{pci::kMultiFunction} << (8 * (pci::kHeaderType - offset))
               : value;
}

Result<void> PciRoot::check_function_zero() const {
    for (unsigned slot = 0; slot < kSlotCount; ++slot) {
        if (present_[slot] != 0 && (present_[slot] & 1) == 0) {
            return Error::invalid("PCI slot {} has functions (mask {:#x}) but no function 0", slot,
                                  present_[slot])
                .with_hint("a guest looks for other functions only when function 0 answers");
        }
    }
    return {};
}

uint64_t PciRoot::bar_address(PciAddress place, unsigned index) {
    const std::lock_guard lock(mutex_);
    return exists(place.slot, place.function) && index < pci::kPlaceCount
               ? at(place.slot, place.function).mapped[index]
               : 0;
}

uint64_t PciRoot::highest_bar_end() {
    const std::lock_guard lock(mutex_);
    uint64_t end = 0;
    for (const Function& function : functions_) {
        for (unsigned index = 0; index < pci::kPlaceCount; ++index) {
            const uint64_t base = function.mapped[index];
            if (base >= k4Gib) {
                end = std::max(end, base + function.device->config_space()->bar_size(index));
            }
        }
    }
    return end;
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
        if (const auto unreported = reports().admit()) {
            log_warn("pci", "ECAM cannot move there",
                     {{"address", wanted},
                      {"reason", added.error().text()},
                      {"unreported", *unreported}});
        }
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
    TRY(check_function_zero());
    uint64_t next32 = config_.mmio32_base;
    uint64_t next64 = config_.mmio64_base;
    for (Function& function : functions_) {
        PciConfigSpace* space =
            function.device != nullptr ? function.device->config_space() : nullptr;
        if (space == nullptr) {
            continue;
        }
        for (unsigned index = 0; index < pci::kPlaceCount; ++index) {
            if (space->bar_size(index) != 0) {
                TRY(assign_bar(function, index, next32, next64));
            }
        }
        function.device->config_write(pci::kCommand, 2, space->command() | pci::kCommandMemory);
        follow_bars(function);
    }
    return {};
}

Result<void> PciRoot::assign_bar(Function& function, unsigned index, uint64_t& next32,
                                 uint64_t& next64) {
    PciConfigSpace& space = *function.device->config_space();
    const uint64_t size = space.bar_size(index);
    const bool high = config_.bars_above_4gib && space.bar_is_64bit(index);
    uint64_t& next = high ? next64 : next32;
    const uint64_t base = align_up(next, size);
    if (!inside_window(base, size) || (!high && base + size > k4Gib)) {
        return Error::exhausted("PCI BAR {} of {} needs {} bytes and its window has no room left",
                                index, function.device->name(), size)
            .with_hint("use fewer devices or a larger window");
    }
    space.set_bar_base(index, base);
    next = base + size;
    return {};
}

void PciRoot::follow_bars(Function& function) {
    PciConfigSpace* space = function.device->config_space();
    if (space == nullptr) {
        return;
    }
    const bool decoding = (space->command() & pci::kCommandMemory) != 0;
    for (unsigned index = 0; index < pci::kPlaceCount; ++index) {
        if (space->bar_size(index) != 0) {
            follow_bar(function, index, decoding);
        }
    }
}

void PciRoot::follow_bar(Function& function, unsigned index, bool decoding) {
    PciConfigSpace& space = *function.device->config_space();
    const uint64_t base = space.bar_base(index);
    const bool shown = decoding && space.bar_enabled(index);
    const uint64_t wanted = shown && inside_window(base, space.bar_size(index)) ? base : 0;
    if (wanted == function.mapped[index]) {
        return;
    }
    unmap_bar(function, index);
    if (wanted == 0 || map_bar(function, index, wanted)) {
        return;
    }
    const uint64_t good = function.last_good[index];
    if (const auto unreported = reports().admit()) {
        log_warn("pci", "BAR move refused: the place is taken",
                 {{"device", function.device->name()},
                  {"bar", index},
                  {"address", wanted},
                  {"unreported", *unreported}});
    }
    space.set_bar_base(index, good);
    if (good != 0) {
        map_bar(function, index, good);
    }
}

bool PciRoot::map_bar(Function& function, unsigned index, uint64_t base) {
    IoDevice* target = function.device->bar(index);
    const uint64_t size = function.device->config_space()->bar_size(index);
    if (target == nullptr || !platform_.mmio_bus().add(base, size, *target).ok()) {
        return false;
    }
    function.mapped[index] = base;
    function.last_good[index] = base;
    function.device->bar_moved(index, base);
    return true;
}

void PciRoot::unmap_bar(Function& function, unsigned index) {
    if (function.mapped[index] == 0) {
        return;
    }
    platform_.mmio_bus().remove(function.mapped[index]);
    function.mapped[index] = 0;
    function.device->bar_moved(index, 0);
}

uint32_t PciRoot::config_address() const {
    return ports_->address();
}

void PciRoot::set_config_address(uint32_t address) {
    ports_->set_address(address);
}

}  // namespace kumoi::hypervisor
