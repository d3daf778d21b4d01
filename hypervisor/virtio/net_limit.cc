#include "hypervisor/virtio/net_limit.h"

#include <algorithm>
#include <utility>

namespace kumoi::hypervisor {

NetLimit::NetLimit(NicThrottle& throttle, NicThrottle::Direction direction, uint16_t queue,
                   Counter& waits)
    : throttle_(throttle), direction_(direction), queue_(queue), waits_(waits) {}

bool NetLimit::may_pass() {
    if (!throttle_.limited(direction_)) {
        return true;
    }
    if (timer_) {
        return false;
    }
    const int64_t wait_ns = throttle_.admit(direction_, context_->clock().monotonic_ns());
    if (wait_ns == 0) {
        return true;
    }
    waits_.increment();
    timer_ = context_->queue_loop(queue_).call_after(std::min(wait_ns, kHoldNsMax), [this] {
        timer_.reset();
        context_->serve_queue(queue_);
    });
    return false;
}

void NetLimit::stop() {
    if (timer_) {
        context_->queue_loop(queue_).cancel(*std::exchange(timer_, std::nullopt));
        throttle_.forget_wait(direction_);  // a pause is not a late timer
    }
}

}  // namespace kumoi::hypervisor
