// Numbers and structures of the vhost-user protocol (QEMU's docs/interop/vhost-user, the
// specification its back ends implement), front end's side. Values only, no behaviour.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kumoi::hypervisor::vhost_user {

// Bit 30 of the virtio features: the protocol features below exist, and rings start disabled.
constexpr uint64_t kFeatureProtocolFeatures = 1ull << 30;

// Protocol features, as masks.
constexpr uint64_t kProtocolMultiQueue = 1ull << 0;
constexpr uint64_t kProtocolReplyAck = 1ull << 3;
constexpr uint64_t kProtocolNetMtu = 1ull << 4;
constexpr uint64_t kProtocolBackendRequest = 1ull << 5;
constexpr uint64_t kProtocolConfig = 1ull << 9;
constexpr uint64_t kProtocolInflight = 1ull << 12;

enum class Request : uint32_t {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    SetMemTable = 5,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    SendRarp = 19,
    NetSetMtu = 20,
    SetBackendRequestFd = 21,
    GetConfig = 24,
    SetConfig = 25,
    GetInflightFd = 31,
    SetInflightFd = 32,
};

// What a back end may ask of us, on the channel of SetBackendRequestFd.
enum class BackendRequest : uint32_t {
    IotlbMessage = 1,
    ConfigChange = 2,
    VringHostNotifier = 3,
    VringCall = 4,
    VringError = 5,
};

struct Header {
    uint32_t request;
    uint32_t flags;
    uint32_t size;  // of the payload
};
static_assert(sizeof(Header) == 12);

constexpr uint32_t kVersion = 1;
constexpr uint32_t kVersionMask = 3;
constexpr uint32_t kFlagReply = 4;
constexpr uint32_t kFlagNeedReply = 8;
constexpr uint64_t kRingNoFd = 0x100;  // in SetVringKick and its like

constexpr size_t kMemoryRegionsMax = 8;  // without CONFIGURE_MEM_SLOTS
constexpr size_t kConfigSizeMax = 256;
constexpr size_t kPayloadMax = 512;  // of any message we send or take
constexpr size_t kFdsMax = 8;

struct RingState {
    uint32_t index;
    uint32_t value;
};

struct RingAddress {
    uint32_t index;
    uint32_t flags;
    uint64_t descriptor;  // these three in the front end's addresses
    uint64_t used;
    uint64_t available;
    uint64_t log;
};
static_assert(sizeof(RingAddress) == 40);

struct MemoryTableEntry {
    uint64_t guest_address;
    uint64_t size;
    uint64_t user_address;
    uint64_t mmap_offset;
};
static_assert(sizeof(MemoryTableEntry) == 32);

struct ConfigHeader {
    uint32_t offset;
    uint32_t size;
    uint32_t flags;
};
static_assert(sizeof(ConfigHeader) == 12);

struct [[gnu::packed]] InflightDescription {
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t queue_count;
    uint16_t queue_size;
};
static_assert(sizeof(InflightDescription) == 20);

}  // namespace kumoi::hypervisor::vhost_user
