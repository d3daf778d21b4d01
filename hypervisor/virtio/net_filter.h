// NetFilter: which frames the guest wants to see (virtio 1.2 §5.1.6.5.1 to .3): receive modes, MAC
// address table, VLANs. Values only. I/O thread, except where the owner locks.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "hypervisor/net/net_backend.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

class NetFilter {
public:
    static constexpr size_t kTableMax = 64;  // addresses of each kind; more: all are let through
    static constexpr size_t kHeadSize = 18;  // bytes of a frame that decide: Ethernet and one tag
    static constexpr uint32_t kVlanCount = 4096;

    enum class Mode : uint8_t {
        Promiscuous,
        AllMulticast,
        AllUnicast,
        NoMulticast,
        NoUnicast,
        NoBroadcast
    };

    // As after a reset: everything is let through until the driver says otherwise.
    explicit NetFilter(const MacAddress& mac) : mac_(mac) {}

    // `head`: the start of the frame, kHeadSize bytes of it if it has as many.
    bool accepts(std::span<const uint8_t> head) const;

    void set_mode(Mode mode, bool on) { modes_[static_cast<size_t>(mode)] = on; }
    void set_mac(const MacAddress& mac) { mac_ = mac; }
    struct Table {
        std::vector<MacAddress> addresses;
        bool all = false;  // the driver listed more than we keep: it filters again itself
    };
    void set_tables(Table unicast, Table multicast);
    void filter_vlans(bool on) { filter_vlans_ = on; }  // the driver agreed to say which it wants
    void set_vlan(uint16_t id, bool wanted) {
        vlans_[id / 8] = bit(vlans_[id / 8], id % 8, wanted);
    }
    const MacAddress& mac() const { return mac_; }

    void save(SectionWriter& out) const;
    Result<void> load(SectionReader& in);

private:
    bool has(Mode mode) const { return modes_[static_cast<size_t>(mode)]; }
    static uint8_t bit(uint8_t byte, unsigned index, bool on) {
        return static_cast<uint8_t>(on ? byte | 1u << index : byte & ~(1u << index));
    }
    bool accepts_vlan(std::span<const uint8_t> head) const;

    MacAddress mac_;
    std::array<bool, 6> modes_{true, false, false, false, false, false};
    Table unicast_;
    Table multicast_;
    bool filter_vlans_ = false;
    std::array<uint8_t, kVlanCount / 8> vlans_{};
};

}  // namespace kumoi::hypervisor
