// NetLimit: one direction of one pair of queues under the card's NicThrottle.
//
// Nothing is dropped for a limit: what may not pass yet stays where it is, in the driver's transmit
// queue or in the backend, whose own queue fills. may_pass() then has the queue served again when
// its time has come; a changed limit is noticed within kHoldNsMax. I/O thread.
#pragma once

#include <cstdint>
#include <optional>

#include "base/event_loop.h"
#include "base/metrics.h"
#include "hypervisor/limits/throttle.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

class NetLimit {
public:
    static constexpr int64_t kHoldNsMax = kNanosPerSecond / 10;

    NetLimit(NicThrottle& throttle, NicThrottle::Direction direction, uint16_t queue,
             Counter& waits);

    void start(VirtioContext& context) { context_ = &context; }
    void stop();  // nothing waits afterwards
    bool may_pass();
    void count(uint64_t bytes) { throttle_.count(direction_, bytes); }

private:
    NicThrottle& throttle_;
    const NicThrottle::Direction direction_;
    const uint16_t queue_;
    Counter& waits_;
    VirtioContext* context_ = nullptr;
    std::optional<EventLoop::TimerId> timer_;
};

}  // namespace kumoi::hypervisor
