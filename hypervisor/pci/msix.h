// Msix: the MSI-X capability, table and pending bits of one function (PCI Local Bus 3.0 §6.8.2).
//
// The table and the pending bits live in the function's BAR; the function forwards BAR accesses
// here. A vector's way into the guest (MsiVector) is created when the vector is first unmasked, so
// a guest that uses two of sixteen vectors costs two routes. A masked vector that is triggered
// becomes pending and fires when it is unmasked. Thread safe: guest accesses come from vCPU
// threads, trigger() from I/O threads.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/pci/config_space.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

class Msix {
public:
    static constexpr uint32_t kEntrySize = 16;

    Msix(Platform& platform, uint16_t vector_count);

    // Adds the capability; table and pending bits at these offsets of BAR `bar`.
    void add_capability(PciConfigSpace& config, unsigned bar, uint32_t table_offset,
                        uint32_t pending_offset);
    // After any guest write to the function's configuration space.
    void follow_control(const PciConfigSpace& config);

    void table_read(uint64_t offset, std::span<uint8_t> data) const;
    void table_write(uint64_t offset, std::span<const uint8_t> data);
    void pending_read(uint64_t offset, std::span<uint8_t> data) const;

    bool enabled() const;
    uint16_t vector_count() const { return static_cast<uint16_t>(entries_.size()); }
    // False when MSI-X is off. A vector out of range is ignored.
    bool trigger(uint16_t vector);
    void reset(PciConfigSpace& config);
    void save(SectionWriter& out) const;
    // The control word is in `config`, which has been loaded before.
    Result<void> load(SectionReader& in, const PciConfigSpace& config);
    uint64_t lost_count() const { return lost_.value(); }  // interrupts without a route

private:
    struct Entry {
        uint32_t address_low = 0;
        uint32_t address_high = 0;
        uint32_t data = 0;
        uint32_t control = 1;  // bit 0: masked
        bool pending = false;
        bool routed = false;
        std::unique_ptr<MsiVector> vector;
    };
    bool masked(const Entry& entry) const { return function_masked_ || (entry.control & 1) != 0; }
    void refresh(Entry& entry);
    void route(Entry& entry);
    void fire(Entry& entry);

    Platform& platform_;
    uint8_t capability_ = 0;
    mutable std::mutex mutex_;  // guards everything below
    bool enabled_ = false;
    bool function_masked_ = false;
    std::vector<Entry> entries_;
    Counter lost_;
};

}  // namespace kumoi::hypervisor
