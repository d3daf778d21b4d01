// The packet of virtio-vsock (virtio 1.2 §5.10.6): a 44-byte header and, for data, its payload.
#pragma once

#include <cstdint>

namespace kumoi::hypervisor::vsock {

constexpr uint64_t kHostCid = 2;  // §5.10.4
constexpr uint16_t kTypeStream = 1;
constexpr uint32_t kPayloadMax = 64u << 10;  // of one packet, as Linux sends them

enum class Operation : uint16_t {
    Invalid = 0,
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Data = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
};

// Flags of Shutdown: what its sender will not do any more.
constexpr uint32_t kShutdownReceive = 1;
constexpr uint32_t kShutdownSend = 2;
constexpr uint32_t kShutdownBoth = kShutdownReceive | kShutdownSend;

struct [[gnu::packed]] Header {
    uint64_t source_cid = 0;
    uint64_t destination_cid = 0;
    uint32_t source_port = 0;
    uint32_t destination_port = 0;
    uint32_t length = 0;  // of the payload
    uint16_t type = 0;
    uint16_t operation = 0;
    uint32_t flags = 0;
    uint32_t buffer_size = 0;      // the sender's receive buffer
    uint32_t forwarded_count = 0;  // bytes taken out of it, modulo 2^32

    Operation op() const { return static_cast<Operation>(operation); }
};
static_assert(sizeof(Header) == 44);

// §5.10.6.5: the only event there is: all connections are gone.
constexpr uint32_t kEventTransportReset = 0;

}  // namespace kumoi::hypervisor::vsock
