// What the network device's files share of virtio 1.2 §5.1: the header in front of each frame, the
// feature bits, and the structures of the control queue.
#pragma once

#include <cstdint>

#include "hypervisor/net/net_backend.h"

namespace kumoi::hypervisor::virtio_net {

// §5.1.3: feature bits.
constexpr uint64_t kChecksum = 1ull << 0;
constexpr uint64_t kGuestChecksum = 1ull << 1;
constexpr uint64_t kControlGuestOffloads = 1ull << 2;
constexpr uint64_t kMtu = 1ull << 3;
constexpr uint64_t kMac = 1ull << 5;
constexpr uint64_t kGuestTso4 = 1ull << 7;
constexpr uint64_t kGuestTso6 = 1ull << 8;
constexpr uint64_t kGuestUfo = 1ull << 10;
constexpr uint64_t kHostTso4 = 1ull << 11;
constexpr uint64_t kHostTso6 = 1ull << 12;
constexpr uint64_t kHostUfo = 1ull << 14;
constexpr uint64_t kMergeableBuffers = 1ull << 15;
constexpr uint64_t kStatus = 1ull << 16;
constexpr uint64_t kControlQueue = 1ull << 17;
constexpr uint64_t kControlReceive = 1ull << 18;
constexpr uint64_t kControlVlan = 1ull << 19;
constexpr uint64_t kControlReceiveExtra = 1ull << 20;
constexpr uint64_t kGuestAnnounce = 1ull << 21;
constexpr uint64_t kMultiQueue = 1ull << 22;
constexpr uint64_t kControlMac = 1ull << 23;
constexpr uint64_t kGuestUso4 = 1ull << 54;
constexpr uint64_t kGuestUso6 = 1ull << 55;
constexpr uint64_t kHostUso = 1ull << 56;
constexpr uint64_t kGuestSegmentation =
    kGuestTso4 | kGuestTso6 | kGuestUfo | kGuestUso4 | kGuestUso6;

// §5.1.6: struct virtio_net_hdr.
struct Header {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t header_length;
    uint16_t gso_size;
    uint16_t checksum_start;
    uint16_t checksum_offset;
    uint16_t buffer_count;
};
static_assert(sizeof(Header) == NetBackend::kHeaderSize);

constexpr uint8_t kNeedsChecksum = 1;
constexpr uint8_t kGsoNone = 0;
constexpr uint8_t kGsoTcp4 = 1;
constexpr uint8_t kGsoUdp = 3;
constexpr uint8_t kGsoTcp6 = 4;
constexpr uint8_t kGsoUdpL4 = 5;

constexpr uint64_t kHeaderSize = NetBackend::kHeaderSize;
constexpr uint64_t kEthernetHeader = 14;
constexpr uint64_t kVlanTag = 4;
constexpr uint64_t kFrameBytesMax = 65550;  // 64 KiB of IP and an Ethernet header (§5.1.6.3.1)

// §5.1.4: device status in the configuration space.
constexpr uint16_t kLinkUp = 1;
constexpr uint16_t kAnnounce = 2;

// What of the agreed features a frame for the guest may use (§5.1.6.3.1).
NetOffloads offloads_of(uint64_t features);

}  // namespace kumoi::hypervisor::virtio_net
