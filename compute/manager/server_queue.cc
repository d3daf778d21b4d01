#include "compute/manager/server_queue.h"

#include <utility>

namespace kumoi::compute {

ServerQueue::ServerQueue(Executor executor, size_t builds_max)
    : executor_(std::move(executor)), builds_max_(builds_max) {}

Result<void> ServerQueue::submit(const std::string& uuid, Lane lane,
                                 std::function<void()> function) {
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) {
            return Error::unavailable("This node is shutting down")
                .with_hint("Try again when its service is up.");
        }
        const auto [entry, is_new] = servers_.try_emplace(uuid);
        if (entry->second.size() >= kQueuedPerServerMax) {
            return Error::exhausted("Server {} already has {} operations waiting", uuid,
                                    entry->second.size())
                .with_hint("Wait for them to end.");
        }
        entry->second.push_back({lane, std::move(function)});
        if (!is_new) {
            return {};  // whoever runs this server comes to it
        }
    }
    auto accepted = executor_([this, uuid] { run_server(uuid); });
    if (!accepted.ok() && !withdraw_first(uuid)) {
        run_server(uuid);  // others were accepted behind ours meanwhile: they must run
    }
    return accepted;
}

// Takes back the item that could not be started. False when more are queued behind it.
bool ServerQueue::withdraw_first(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    const auto entry = servers_.find(uuid);
    entry->second.pop_front();
    if (!entry->second.empty()) {
        return false;
    }
    servers_.erase(entry);
    idle_.notify_all();
    return true;
}

void ServerQueue::stop() {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
}

void ServerQueue::wait_idle() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return servers_.empty(); });
}

size_t ServerQueue::servers_busy() const {
    const std::lock_guard lock(mutex_);
    return servers_.size();
}

void ServerQueue::run_server(const std::string& uuid) {
    std::deque<std::string> todo = {uuid};
    while (!todo.empty()) {
        Turn turn = next_turn(todo.front());
        if (turn.kind != Turn::Kind::Run) {
            todo.pop_front();
            continue;
        }
        turn.item.function();
        if (auto next = finish(turn.item.lane)) {
            todo.push_back(std::move(*next));
        }
    }
}

ServerQueue::Turn ServerQueue::next_turn(const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    auto entry = servers_.find(uuid);
    if (entry->second.empty()) {
        servers_.erase(entry);
        idle_.notify_all();
        return {Turn::Kind::Idle, {}};
    }
    if (entry->second.front().lane == Lane::Build) {
        if (builds_running_ >= builds_max_) {
            parked_.push_back(uuid);
            return {Turn::Kind::Park, {}};
        }
        ++builds_running_;
    }
    Turn turn{Turn::Kind::Run, std::move(entry->second.front())};
    entry->second.pop_front();
    return turn;
}

// Gives the slot of an ended build to the server that waits longest. Returns that server when the
// executor is full, for the caller to run after its own.
std::optional<std::string> ServerQueue::finish(Lane lane) {
    if (lane != Lane::Build) {
        return std::nullopt;
    }
    std::string next;
    {
        const std::lock_guard lock(mutex_);
        --builds_running_;
        if (parked_.empty()) {
            return std::nullopt;
        }
        next = std::move(parked_.front());
        parked_.pop_front();
    }
    if (executor_([this, next] { run_server(next); }).ok()) {
        return std::nullopt;
    }
    return next;
}

}  // namespace kumoi::compute
