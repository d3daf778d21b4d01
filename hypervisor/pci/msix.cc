#include "hypervisor/pci/msix.h"

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "base/log.h"
#include "hypervisor/limits/report_limit.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint32_t kControlOffset = 2;  // in the capability
constexpr uint16_t kControlEnable = 1u << 15;
constexpr uint16_t kControlFunctionMask = 1u << 14;

// Fields of the section; never reused. The table is the one of §6.8.2, 16 bytes a vector.
enum Field : uint16_t { kFieldTable = 1, kFieldPending = 2 };

// One for the process, which has one machine: refusals of all functions together.
ReportLimit& reports() {
    static ReportLimit limit;
    return limit;
}

}  // namespace

Msix::Msix(Platform& platform, uint16_t vector_count)
    : platform_(platform), entries_(vector_count) {
    KUMOI_ASSERT(vector_count >= 1);
    KUMOI_ASSERT(vector_count <= 2048);  // §6.8.2.3
}

void Msix::add_capability(PciConfigSpace& config, unsigned bar, uint32_t table_offset,
                          uint32_t pending_offset) {
    std::array<uint8_t, 10> body{};
    const auto put = [&body](size_t at, uint32_t value, size_t width) {
        for (size_t i = 0; i < width; ++i) {
            body[at + i] = static_cast<uint8_t>(value >> (8 * i));
        }
    };
    put(0, static_cast<uint32_t>(entries_.size() - 1), 2);
    put(2, table_offset | bar, 4);
    put(6, pending_offset | bar, 4);
    const std::array<uint8_t, 2> writable{0x00, 0xc0};  // enable and function mask
    capability_ = config.add_capability(pci::kCapabilityMsix, body, writable);
}

void Msix::follow_control(const PciConfigSpace& config) {
    const uint32_t control = config.read(capability_ + kControlOffset, 2);
    const bool enable = (control & kControlEnable) != 0;
    const bool mask = (control & kControlFunctionMask) != 0;
    const std::lock_guard lock(mutex_);
    if (enable == enabled_ && mask == function_masked_) {
        return;
    }
    enabled_ = enable;
    function_masked_ = mask;
    for (Entry& entry : entries_) {
        refresh(entry);
    }
}

void Msix::table_read(uint64_t offset, std::span<uint8_t> data) const {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        const uint64_t at = offset + i;
        data[i] = 0;
        if (at / kEntrySize >= entries_.size()) {
            continue;
        }
        const Entry& entry = entries_[at / kEntrySize];
        const std::array<uint32_t, 4> words{entry.address_low, entry.address_high, entry.data,
                                            entry.control};
        data[i] = static_cast<uint8_t>(words[(at % kEntrySize) / 4] >> (8 * (at % 4)));
    }
}

// Software must use aligned 4 or 8 byte accesses (§6.8.2); we take any width, byte by byte, and
// look at the result once.
void Msix::table_write(uint64_t offset, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        const uint64_t at = offset + i;
        if (at / kEntrySize >= entries_.size()) {
            return;
        }
        Entry& entry = entries_[at / kEntrySize];
        const std::array<uint32_t*, 4> words{&entry.address_low, &entry.address_high, &entry.data,
                                             &entry.control};
        uint32_t& word = *words[(at % kEntrySize) / 4];
        const uint32_t shift = 8 * (at % 4);
        const uint32_t old = word;
        word = (word & ~(0xffu << shift)) | (static_cast<uint32_t>(data[i]) << shift);
        entry.address_low &= ~3u;
        entry.control &= 1;
        if (word != old && &word != &entry.control) {
            entry.routed = false;
        }
    }
    for (uint64_t index = offset / kEntrySize;
         index <= (offset + data.size() - 1) / kEntrySize && index < entries_.size(); ++index) {
        refresh(entries_[index]);
    }
}

void Msix::pending_read(uint64_t offset, std::span<uint8_t> data) const {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
        data[i] = 0;
        for (uint64_t bit = 0; bit < 8; ++bit) {
            const uint64_t index = (offset + i) * 8 + bit;
            if (index < entries_.size() && entries_[index].pending) {
                data[i] |= static_cast<uint8_t>(1u << bit);
            }
        }
    }
}

bool Msix::enabled() const {
    const std::lock_guard lock(mutex_);
    return enabled_;
}

bool Msix::trigger(uint16_t vector) {
    const std::lock_guard lock(mutex_);
    if (!enabled_ || vector >= entries_.size()) {
        return enabled_;
    }
    Entry& entry = entries_[vector];
    if (masked(entry)) {
        entry.pending = true;
    } else {
        fire(entry);
    }
    return true;
}

void Msix::reset(PciConfigSpace& config) {
    config.set(capability_ + kControlOffset, 2, static_cast<uint32_t>(entries_.size() - 1));
    const std::lock_guard lock(mutex_);
    enabled_ = false;
    function_masked_ = false;
    for (Entry& entry : entries_) {
        auto vector = std::move(entry.vector);  // keeps its place in the routing table
        entry = Entry{};
        entry.vector = std::move(vector);
    }
}

// After any change of an entry or of the control word.
void Msix::refresh(Entry& entry) {
    if (!enabled_ || masked(entry)) {
        return;
    }
    route(entry);
    if (entry.pending) {
        fire(entry);
    }
}

void Msix::route(Entry& entry) {
    if (entry.routed) {
        return;
    }
    if (!entry.vector) {
        auto vector = platform_.create_msi_vector();
        if (!vector.ok()) {
            if (const auto unreported = reports().admit()) {
                log_warn("pci", "no MSI-X vector",
                         {{"reason", vector.error().text()}, {"unreported", *unreported}});
            }
            return;
        }
        entry.vector = std::move(vector).value();
    }
    const uint64_t address = static_cast<uint64_t>(entry.address_high) << 32 | entry.address_low;
    entry.routed = entry.vector->set_route(address, entry.data).ok();
}

void Msix::fire(Entry& entry) {
    entry.pending = false;
    if (!entry.routed) {
        lost_.increment();
        return;
    }
    entry.vector->trigger();
}

void Msix::save(SectionWriter& out) const {
    std::vector<uint8_t> table(entries_.size() * kEntrySize);
    table_read(0, table);
    std::vector<uint8_t> pending((entries_.size() + 7) / 8);
    pending_read(0, pending);
    out.bytes(kFieldTable, std::span<const uint8_t>(table));
    out.bytes(kFieldPending, std::span<const uint8_t>(pending));
}

Result<void> Msix::load(SectionReader& in, const PciConfigSpace& config) {
    const auto table = TRY(in.bytes(kFieldTable, entries_.size() * kEntrySize));
    const auto pending = TRY(in.bytes(kFieldPending, (entries_.size() + 7) / 8));
    {
        const std::lock_guard lock(mutex_);
        enabled_ = false;  // so that nothing fires before all is in place
        for (size_t i = 0; i < entries_.size(); ++i) {
            entries_[i].pending = (static_cast<uint8_t>(pending[i / 8]) >> (i % 8) & 1) != 0;
        }
    }
    table_write(0, {reinterpret_cast<const uint8_t*>(table.data()), table.size()});
    follow_control(config);
    return {};
}

}  // namespace kumoi::hypervisor
