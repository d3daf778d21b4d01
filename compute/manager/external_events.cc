#include "compute/manager/external_events.h"

#include <algorithm>
#include <chrono>

namespace kumoi::compute {

struct ExternalEvents::Waiter {
    std::string server;
    std::set<std::string> missing;
    std::string failed;  // the first that failed
    bool cancelled = false;
};

ExternalEvents::Expected::Expected(Expected&& other) noexcept
    : owner_(other.owner_), waiter_(std::move(other.waiter_)) {}

ExternalEvents::Expected::~Expected() {
    if (waiter_) {
        const std::lock_guard lock(owner_->mutex_);
        std::erase_if(owner_->waiters_,
                      [this](const auto& entry) { return entry.second == waiter_; });
    }
}

Result<void> ExternalEvents::Expected::wait(int64_t timeout_ns) {
    std::unique_lock lock(owner_->mutex_);
    Waiter& waiter = *waiter_;
    const auto is_over = [&] {
        return waiter.missing.empty() || !waiter.failed.empty() || waiter.cancelled;
    };
    owner_->changed_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), is_over);
    if (waiter.cancelled) {
        return Error::cancelled("nobody waits for events of server {} any more", waiter.server);
    }
    if (!waiter.failed.empty()) {
        return Error::unavailable("event {} of server {} reported a failure", waiter.failed,
                                  waiter.server);
    }
    if (!waiter.missing.empty()) {
        return Error::timeout("event {} of server {} did not come within {} s ({} missing)",
                              *waiter.missing.begin(), waiter.server, timeout_ns / 1'000'000'000,
                              waiter.missing.size());
    }
    return {};
}

ExternalEvents::Expected ExternalEvents::expect(const std::string& server,
                                                const std::vector<std::string>& keys) {
    auto waiter = std::make_shared<Waiter>();
    waiter->server = server;
    waiter->missing.insert(keys.begin(), keys.end());
    const std::lock_guard lock(mutex_);
    waiters_.emplace(server, waiter);
    return {*this, std::move(waiter)};
}

bool ExternalEvents::deliver(const std::string& server, const std::string& key,
                             std::string_view status) {
    const std::lock_guard lock(mutex_);
    bool taken = false;
    const auto [begin, end] = waiters_.equal_range(server);
    for (auto entry = begin; entry != end; ++entry) {
        Waiter& waiter = *entry->second;
        if (waiter.missing.erase(key) == 0) {
            continue;
        }
        taken = true;
        if (status == "failed" && waiter.failed.empty()) {
            waiter.failed = key;
        }
    }
    if (taken) {
        changed_.notify_all();
    }
    return taken;
}

void ExternalEvents::cancel(const std::string& server) {
    const std::lock_guard lock(mutex_);
    const auto [begin, end] = waiters_.equal_range(server);
    for (auto entry = begin; entry != end; ++entry) {
        entry->second->cancelled = true;
    }
    changed_.notify_all();
}

}  // namespace kumoi::compute
