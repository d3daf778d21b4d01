// DriverRing: the driver's side of one split virtqueue (virtio 1.2 §2.7) in memory that a back end
// shares: buffers go in by their slot, come back in any order.
//
// Slot i is descriptor i; whoever uses the ring writes that descriptor (an indirect table, or one
// buffer). The back end may write any byte of the shared memory at any time: an index that moved
// too far or a slot that was not given is an error, and no byte of the ring is believed twice.
// One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"

namespace kumoi::hypervisor {

class DriverRing {
public:
    struct Descriptor {  // §2.7.5
        uint64_t address;
        uint32_t length;
        uint16_t flags;
        uint16_t next;
    };
    static_assert(sizeof(Descriptor) == 16);
    static constexpr uint16_t kNext = 1;
    static constexpr uint16_t kWrite = 2;
    static constexpr uint16_t kIndirect = 4;

    // `memory`: bytes(size) of them, aligned to 16. `size` is a power of two.
    DriverRing(std::span<std::byte> memory, uint16_t size);
    static size_t bytes(uint16_t size);

    void reset();  // as fresh: nothing is with the back end
    void set_descriptor(uint16_t slot, const Descriptor& descriptor);
    void give(uint16_t slot);
    // Shows the back end what was given since; true when it wants to be kicked.
    bool publish();
    // The next slot that came back; none when there is none now.
    Result<std::optional<uint16_t>> take();
    uint32_t taken_length() const { return taken_length_; }  // what the back end wrote; its word

    uint16_t size() const { return size_; }
    uint16_t with_back_end() const { return given_count_; }
    const std::byte* descriptors() const { return memory_.data(); }
    const std::byte* available() const { return memory_.data() + available_at_; }
    const std::byte* used() const { return memory_.data() + used_at_; }

private:
    std::span<std::byte> memory_;
    const uint16_t size_;
    const size_t available_at_;
    const size_t used_at_;
    std::vector<bool> given_;  // by slot
    uint16_t given_count_ = 0;
    uint16_t next_available_ = 0;
    uint16_t published_ = 0;
    uint16_t next_used_ = 0;
    uint32_t taken_length_ = 0;
};

}  // namespace kumoi::hypervisor
