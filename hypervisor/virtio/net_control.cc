#include "hypervisor/virtio/net_control.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "hypervisor/virtio/net_spec.h"

namespace kumoi::hypervisor {

namespace {

// §5.1.6.5: classes and their commands.
constexpr uint8_t kClassReceive = 0;
constexpr uint8_t kClassMac = 1;
constexpr uint8_t kMacTable = 0;
constexpr uint8_t kMacAddress = 1;
constexpr uint8_t kClassVlan = 2;
constexpr uint8_t kVlanAdd = 0;
constexpr uint8_t kVlanDelete = 1;
constexpr uint8_t kClassAnnounce = 3;
constexpr uint8_t kClassMultiQueue = 4;
constexpr uint8_t kClassOffloads = 5;

constexpr uint64_t kOffloads = virtio_net::kGuestChecksum | virtio_net::kGuestSegmentation;

constexpr uint8_t kOk = 0;
constexpr uint8_t kRefused = 1;
constexpr size_t kCommandHeader = 2;
constexpr uint8_t kReceiveModes = 6;
constexpr uint8_t kReceiveModesBasic = 2;  // promiscuous and all-multicast; the others are EXTRA

enum Field : uint16_t { kFieldPairs = 1, kFieldAnnouncing, kFieldFilter, kFieldOffloads };

template <class T>
std::optional<T> only(std::span<const uint8_t> data) {
    T value;
    if (data.size() != sizeof(T)) {
        return std::nullopt;
    }
    std::memcpy(&value, data.data(), sizeof(T));
    return value;
}

// §5.1.6.5.2: a 32-bit count and that many addresses; taken off the front.
std::optional<std::vector<MacAddress>> take_table(std::span<const uint8_t>& data, bool& too_many) {
    uint32_t count = 0;
    if (data.size() < sizeof(count)) {
        return std::nullopt;
    }
    std::memcpy(&count, data.data(), sizeof(count));
    data = data.subspan(sizeof(count));
    if (count > data.size() / sizeof(MacAddress)) {
        return std::nullopt;
    }
    std::vector<MacAddress> table(std::min<size_t>(count, NetFilter::kTableMax));
    for (size_t i = 0; i < table.size(); ++i) {
        std::memcpy(table[i].data(), data.data() + i * sizeof(MacAddress), sizeof(MacAddress));
    }
    too_many = count > NetFilter::kTableMax;
    data = data.subspan(count * sizeof(MacAddress));
    return table;
}

}  // namespace

NetControl::NetControl(const MacAddress& mac, uint16_t pairs_max, Hooks hooks)
    : permanent_mac_(mac), pairs_max_(pairs_max), hooks_(std::move(hooks)), filter_(mac) {}

void NetControl::begin(uint64_t features) {
    features_ = features;
    if (!loaded_) {
        filter_.filter_vlans(agreed(virtio_net::kControlVlan));
        offloads_ = features & kOffloads;
    }
    loaded_ = false;
}

void NetControl::reset() {
    const std::lock_guard lock(mac_mutex_);
    filter_ = NetFilter(permanent_mac_);
    announcing_ = false;
    pairs_ = 1;
    features_ = 0;
}

MacAddress NetControl::mac() const {
    const std::lock_guard lock(mac_mutex_);
    return filter_.mac();
}

void NetControl::process(Chain& chain) {
    std::array<std::byte, kCommandBytesMax> bytes;
    const uint64_t size = chain.readable_size();
    bool done = false;
    commands_.increment();
    if (size >= kCommandHeader && size <= bytes.size()) {
        chain.copy_out(0, std::span(bytes).first(size));
        const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
        done = run(data[0], data[1], Bytes(data, size).subspan(kCommandHeader));
    }
    if (!done) {
        refused_.increment();
    }
    const uint8_t answer = done ? kOk : kRefused;
    chain.add_used(static_cast<uint32_t>(chain.copy_in(0, std::as_bytes(std::span(&answer, 1)))));
}

bool NetControl::run(uint8_t kind, uint8_t command, Bytes data) {
    switch (kind) {
        case kClassReceive: return set_mode(command, data);
        case kClassMac: return set_mac(command, data);
        case kClassVlan: return set_vlan(command, data);
        case kClassAnnounce:
            announcing_ = announcing_ && !agreed(virtio_net::kGuestAnnounce);
            return agreed(virtio_net::kGuestAnnounce) && command == 0;
        case kClassMultiQueue: return set_pairs(command, data);
        case kClassOffloads: return set_offloads(command, data);
        default: return false;
    }
}

bool NetControl::set_mode(uint8_t command, Bytes data) {
    const uint64_t needed = command < kReceiveModesBasic ? virtio_net::kControlReceive
                                                         : virtio_net::kControlReceiveExtra;
    const auto on = only<uint8_t>(data);
    if (command >= kReceiveModes || !agreed(needed) || !on) {
        return false;
    }
    filter_.set_mode(static_cast<NetFilter::Mode>(command), *on != 0);
    return true;
}

bool NetControl::set_mac(uint8_t command, Bytes data) {
    if (command == kMacAddress) {
        const auto mac = only<MacAddress>(data);
        if (!mac || !agreed(virtio_net::kControlMac)) {
            return false;
        }
        const std::lock_guard lock(mac_mutex_);
        filter_.set_mac(*mac);
        return true;
    }
    if (command != kMacTable || !agreed(virtio_net::kControlReceive)) {
        return false;
    }
    bool all_unicast = false;
    bool all_multicast = false;
    auto unicast = take_table(data, all_unicast);
    auto multicast = unicast ? take_table(data, all_multicast) : std::nullopt;
    if (!multicast || !data.empty()) {
        return false;
    }
    filter_.set_tables({std::move(*unicast), all_unicast}, {std::move(*multicast), all_multicast});
    return true;
}

bool NetControl::set_vlan(uint8_t command, Bytes data) {
    const auto id = only<uint16_t>(data);
    if (!id || *id >= NetFilter::kVlanCount || command > kVlanDelete ||
        !agreed(virtio_net::kControlVlan)) {
        return false;
    }
    filter_.set_vlan(*id, command == kVlanAdd);
    return true;
}

bool NetControl::set_pairs(uint8_t command, Bytes data) {
    const auto pairs = only<uint16_t>(data);
    if (!pairs || command != 0 || !agreed(virtio_net::kMultiQueue) || *pairs == 0 ||
        *pairs > pairs_max_ || !hooks_.set_pairs(*pairs)) {
        return false;
    }
    pairs_ = *pairs;
    return true;
}

// §5.1.6.5.7: a subset of what was agreed.
bool NetControl::set_offloads(uint8_t command, Bytes data) {
    const auto wanted = only<uint64_t>(data);
    if (!wanted || command != 0 || !agreed(virtio_net::kControlGuestOffloads) ||
        (*wanted & ~(features_ & kOffloads)) != 0 || !hooks_.set_offloads(*wanted)) {
        return false;
    }
    offloads_ = *wanted;
    return true;
}

void NetControl::save(SectionWriter& out) const {
    SectionWriter filter("filter", 1);
    filter_.save(filter);
    out.u64(kFieldPairs, pairs_)
        .flag(kFieldAnnouncing, announcing_)
        .group(kFieldFilter, filter)
        .u64(kFieldOffloads, offloads_);
}

Result<void> NetControl::load(SectionReader& in) {
    const auto pairs = static_cast<uint16_t>(TRY(in.u64_max(kFieldPairs, pairs_max_)));
    if (pairs == 0) {
        return in.refuse(kFieldPairs, "a card has at least one pair of queues");
    }
    const bool announcing = TRY(in.flag(kFieldAnnouncing));
    const uint64_t offloads = TRY(in.u64(kFieldOffloads)) & kOffloads;
    SectionReader filter = TRY(in.group(kFieldFilter));
    TRY(filter_.load(filter));
    TRY(filter.finish());
    pairs_ = pairs;
    announcing_ = announcing;
    offloads_ = offloads;
    loaded_ = true;
    return {};
}

}  // namespace kumoi::hypervisor
