#include "api/amqp/pending_calls.h"

#include <algorithm>

namespace kumoi::amqp {

bool PendingCalls::add(const std::string& id, const std::string& what, Limits limits,
                       int64_t now_ns) {
    const std::lock_guard lock(mutex_);
    if (closed_) {
        return false;
    }
    auto call = std::make_unique<Call>();
    call->what = what;
    call->limits = limits;
    call->started_ns = now_ns;
    if (limits.monitor_ns > 0) {
        call->monitor_deadline_ns = now_ns + limits.monitor_ns;
    }
    call->deadline =
        deadlines_.emplace(std::min(limits.deadline_ns, call->monitor_deadline_ns), id);
    calls_.emplace(id, std::move(call));
    return true;
}

Result<Json> PendingCalls::wait(const std::string& id) {
    std::unique_lock lock(mutex_);
    Call& call = *calls_.at(id);
    call.changed.wait(lock, [&] { return call.outcome.has_value(); });
    Result<Json> outcome = std::move(*call.outcome);
    calls_.erase(id);
    if (calls_.empty()) {
        emptied_.notify_all();
    }
    return outcome;
}

bool PendingCalls::wait_ready(const std::string& id) {
    std::unique_lock lock(mutex_);
    Call& call = *calls_.at(id);
    call.changed.wait(lock, [&] { return call.outcome.has_value() || ready_; });
    return !call.outcome.has_value();
}

void PendingCalls::set_ready(bool ready) {
    const std::lock_guard lock(mutex_);
    ready_ = ready;
    for (auto& [id, call] : calls_) {
        call->changed.notify_all();
    }
}

bool PendingCalls::is_ready() const {
    const std::lock_guard lock(mutex_);
    return ready_;
}

bool PendingCalls::waits(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    const auto found = calls_.find(id);
    return found != calls_.end() && !found->second->outcome;
}

void PendingCalls::settle_locked(Call& call, Result<Json> outcome) {
    deadlines_.erase(call.deadline);
    call.outcome = std::move(outcome);
    call.changed.notify_all();
}

bool PendingCalls::settle(const std::string& id, Result<Json> outcome) {
    const std::lock_guard lock(mutex_);
    const auto found = calls_.find(id);
    if (found == calls_.end() || found->second->outcome) {
        return false;
    }
    settle_locked(*found->second, std::move(outcome));
    return true;
}

void PendingCalls::reschedule(const std::string& id, Call& call) {
    deadlines_.erase(call.deadline);
    call.deadline =
        deadlines_.emplace(std::min(call.limits.deadline_ns, call.monitor_deadline_ns), id);
}

bool PendingCalls::alive(const std::string& id, int64_t now_ns) {
    const std::lock_guard lock(mutex_);
    const auto found = calls_.find(id);
    if (found == calls_.end() || found->second->outcome) {
        return false;
    }
    if (found->second->limits.monitor_ns > 0) {
        found->second->monitor_deadline_ns = now_ns + found->second->limits.monitor_ns;
        reschedule(id, *found->second);
    }
    return true;
}

void PendingCalls::expire(int64_t now_ns) {
    const std::lock_guard lock(mutex_);
    while (!deadlines_.empty() && deadlines_.begin()->first <= now_ns) {
        Call& call = *calls_.at(deadlines_.begin()->second);
        const int64_t waited_ms = (now_ns - call.started_ns) / kNanosPerMilli;
        const bool silent = call.monitor_deadline_ns <= now_ns;
        ++expired_;
        settle_locked(call, Error::timeout("{} did not answer: {} after {} ms", call.what,
                                           silent ? "no sign of life" : "no reply", waited_ms)
                                .with_fault("MessagingTimeout"));
    }
}

std::optional<int64_t> PendingCalls::next_deadline_ns() const {
    const std::lock_guard lock(mutex_);
    return deadlines_.empty() ? std::nullopt : std::optional(deadlines_.begin()->first);
}

void PendingCalls::close(const Error& error) {
    std::unique_lock lock(mutex_);
    closed_ = true;
    for (auto& [id, call] : calls_) {
        if (!call->outcome) {
            settle_locked(*call, error);
        }
    }
    emptied_.wait(lock, [&] { return calls_.empty(); });
}

uint64_t PendingCalls::expired() const {
    const std::lock_guard lock(mutex_);
    return expired_;
}

}  // namespace kumoi::amqp
