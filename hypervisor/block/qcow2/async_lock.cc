#include "hypervisor/block/qcow2/async_lock.h"

#include <algorithm>

namespace kumoi::hypervisor::qcow2 {

bool AsyncMutex::wait(IoPort& port, std::coroutine_handle<> handle) {
    const std::lock_guard lock(mutex_);
    if (!locked_) {
        locked_ = true;
        return false;
    }
    waiters_.emplace_back(&port, handle);
    return true;
}

void AsyncMutex::unlock() {
    std::pair<IoPort*, std::coroutine_handle<>> next{};
    {
        const std::lock_guard lock(mutex_);
        if (waiters_.empty()) {
            locked_ = false;
            return;
        }
        next = waiters_.front();  // stays locked: it is the next one's now
        waiters_.pop_front();
    }
    next.first->post(next.second);
}

bool RangeLocks::free(const Range& range, size_t waiters_before) const {
    const auto meets = [&](const Range& other) {
        return range.first <= other.last && other.first <= range.last;
    };
    if (std::any_of(held_.begin(), held_.end(), meets)) {
        return false;
    }
    return std::none_of(waiters_.begin(),
                        waiters_.begin() + static_cast<std::ptrdiff_t>(waiters_before),
                        [&](const Waiter& waiter) { return meets(waiter.range); });
}

bool RangeLocks::wait(IoPort& port, std::coroutine_handle<> handle, uint64_t first, uint64_t last) {
    const std::lock_guard lock(mutex_);
    const Range range{first, last};
    if (free(range, waiters_.size())) {
        held_.push_back(range);
        return false;
    }
    waiters_.push_back({&port, handle, range});
    return true;
}

void RangeLocks::unlock(uint64_t first, uint64_t last) {
    std::vector<Waiter> ready;
    {
        const std::lock_guard lock(mutex_);
        const auto found = std::find_if(held_.begin(), held_.end(), [&](const Range& range) {
            return range.first == first && range.last == last;
        });
        *found = held_.back();
        held_.pop_back();
        for (size_t i = 0; i < waiters_.size();) {
            if (!free(waiters_[i].range, i)) {
                ++i;
                continue;
            }
            held_.push_back(waiters_[i].range);
            ready.push_back(waiters_[i]);
            waiters_.erase(waiters_.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }
    for (const Waiter& waiter : ready) {
        waiter.port->post(waiter.handle);
    }
}

}  // namespace kumoi::hypervisor::qcow2
