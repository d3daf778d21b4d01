// NetBackend: where the frames of one pair of a network device's queues go and come from. A TAP in
// a machine (net/tap), memory in tests. Every frame starts with the 12-byte virtio network header
// (virtio 1.2 §5.1.6), checked by the device before it is sent here. Used by the device's I/O
// thread only; nothing here may block.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include <sys/uio.h>

#include "base/result.h"

namespace kumoi::hypervisor {

using MacAddress = std::array<uint8_t, 6>;

// Offloads the other side may use in frames it gives to the guest; also what the backend can take.
struct NetOffloads {
    bool checksum = false;
    bool tso4 = false;
    bool tso6 = false;
    bool ufo = false;
    bool uso = false;  // UDP segmentation, v4 and v6
    bool operator==(const NetOffloads&) const = default;
};

class NetBackend {
public:
    static constexpr uint64_t kHeaderSize = 12;

    virtual ~NetBackend() = default;
    virtual std::string name() const = 0;
    virtual NetOffloads supported() const = 0;
    // What the guest can take from now on.
    virtual Result<void> set_offloads(const NetOffloads& offloads) = 0;
    // Whether frames may come here: one queue of several may be out of use.
    virtual Result<void> set_active(bool /*active*/) { return {}; }
    virtual int poll_fd() const = 0;             // readable: a frame may be there
    virtual int vhost_fd() const { return -1; }  // what vhost-net may be given, if it can
    // Bytes of the frame with its header, or a negative errno; -EAGAIN: no frame, or no room.
    virtual int64_t receive(std::span<const iovec> vectors) = 0;
    virtual int64_t send(std::span<const iovec> vectors) = 0;
    // Frames that have waited here, up to so many, go nowhere. Returns how many there were.
    size_t drop_waiting(size_t count_max);
};

}  // namespace kumoi::hypervisor
