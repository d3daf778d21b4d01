#include "hypervisor/virtio/net_filter.h"

#include <algorithm>
#include <cstring>

namespace kumoi::hypervisor {

namespace {

constexpr MacAddress kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr size_t kTypeAt = 12;
constexpr size_t kTagAt = 14;

enum Field : uint16_t { kFieldMac = 1, kFieldModes, kFieldUnicast, kFieldMulticast, kFieldVlans };

// First whether it stands for all addresses, then those listed.
std::vector<uint8_t> flat(const NetFilter::Table& table) {
    std::vector<uint8_t> bytes{static_cast<uint8_t>(table.all ? 1 : 0)};
    for (const MacAddress& address : table.addresses) {
        bytes.insert(bytes.end(), address.begin(), address.end());
    }
    return bytes;
}

Result<NetFilter::Table> table_of(SectionReader& in, uint16_t field) {
    const auto bytes = TRY(in.bytes(field));
    if (bytes.size() % sizeof(MacAddress) != 1 ||
        bytes.size() > NetFilter::kTableMax * sizeof(MacAddress) + 1) {
        return in.refuse(field, "no table of MAC addresses has this size");
    }
    NetFilter::Table table;
    table.all = bytes[0] != std::byte{0};
    table.addresses.resize(bytes.size() / sizeof(MacAddress));
    for (size_t i = 0; i < table.addresses.size(); ++i) {
        std::memcpy(table.addresses[i].data(), bytes.data() + 1 + i * sizeof(MacAddress),
                    sizeof(MacAddress));
    }
    return table;
}

}  // namespace

bool NetFilter::accepts(std::span<const uint8_t> head) const {
    if (has(Mode::Promiscuous)) {
        return true;
    }
    MacAddress to;
    if (head.size() < kTagAt || !accepts_vlan(head)) {
        return false;
    }
    std::copy_n(head.begin(), to.size(), to.begin());
    if (to == kBroadcast) {
        return !has(Mode::NoBroadcast);
    }
    const auto listed = [&to](const Table& table) {
        return table.all || std::find(table.addresses.begin(), table.addresses.end(), to) !=
                                table.addresses.end();
    };
    if ((to[0] & 1) != 0) {
        return !has(Mode::NoMulticast) && (has(Mode::AllMulticast) || listed(multicast_));
    }
    return !has(Mode::NoUnicast) && (has(Mode::AllUnicast) || to == mac_ || listed(unicast_));
}

// §5.1.6.5.3: frames without a tag always pass.
bool NetFilter::accepts_vlan(std::span<const uint8_t> head) const {
    const unsigned type = head[kTypeAt] << 8 | head[kTypeAt + 1];
    if (!filter_vlans_ || type != 0x8100) {
        return true;
    }
    if (head.size() < kHeadSize) {
        return false;
    }
    const unsigned id = (head[kTagAt] << 8 | head[kTagAt + 1]) & 0xfff;
    return (vlans_[id / 8] & 1u << id % 8) != 0;
}

void NetFilter::set_tables(Table unicast, Table multicast) {
    unicast_ = std::move(unicast);
    multicast_ = std::move(multicast);
}

void NetFilter::save(SectionWriter& out) const {
    uint64_t modes = filter_vlans_ ? 1u << modes_.size() : 0;
    for (size_t i = 0; i < modes_.size(); ++i) {
        modes |= modes_[i] ? 1u << i : 0;
    }
    out.bytes(kFieldMac, std::span<const uint8_t>(mac_))
        .u64(kFieldModes, modes)
        .bytes(kFieldUnicast, std::span<const uint8_t>(flat(unicast_)))
        .bytes(kFieldMulticast, std::span<const uint8_t>(flat(multicast_)))
        .bytes(kFieldVlans, std::span<const uint8_t>(vlans_));
}

Result<void> NetFilter::load(SectionReader& in) {
    const auto mac = TRY(in.bytes(kFieldMac, mac_.size()));
    const auto modes = TRY(in.u64_max(kFieldModes, (2u << modes_.size()) - 1));
    auto unicast = TRY(table_of(in, kFieldUnicast));
    auto multicast = TRY(table_of(in, kFieldMulticast));
    const auto vlans = TRY(in.bytes(kFieldVlans, vlans_.size()));
    std::memcpy(mac_.data(), mac.data(), mac_.size());
    for (size_t i = 0; i < modes_.size(); ++i) {
        modes_[i] = (modes & 1u << i) != 0;
    }
    filter_vlans_ = (modes & 1u << modes_.size()) != 0;
    set_tables(std::move(unicast), std::move(multicast));
    std::memcpy(vlans_.data(), vlans.data(), vlans_.size());
    return {};
}

}  // namespace kumoi::hypervisor
