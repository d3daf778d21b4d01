// Announcement: after a guest has moved, its cards tell the network where they are now: five
// rounds, the first at once, then 50, 150, 250 and 350 ms apart, for a frame may be lost while
// ports and switches settle. A later announcement replaces one that goes on. On the loop's thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/event_loop.h"
#include "hypervisor/net/net_backend.h"

namespace kumoi::hypervisor {

// A reverse ARP request (RFC 903) from this card, behind an empty virtio header: it asks for
// nothing that anybody answers, and every switch learns from it.
constexpr size_t kRarpFrameSize = NetBackend::kHeaderSize + 60;
std::array<std::byte, kRarpFrameSize> rarp_frame(const MacAddress& mac);

class Announcement {
public:
    static constexpr uint32_t kRounds = 5;
    static constexpr int64_t kFirstDelayNs = 50 * kNanosPerMilli;
    static constexpr int64_t kDelayStepNs = 100 * kNanosPerMilli;

    Announcement(EventLoop& loop, std::function<void()> announce)
        : loop_(loop), announce_(std::move(announce)) {}
    ~Announcement() { loop_.cancel(timer_); }
    Announcement(const Announcement&) = delete;
    Announcement& operator=(const Announcement&) = delete;

    void begin();

private:
    void round();

    EventLoop& loop_;
    const std::function<void()> announce_;  // each card, once
    uint32_t round_ = 0;
    EventLoop::TimerId timer_ = 0;
};

}  // namespace kumoi::hypervisor
