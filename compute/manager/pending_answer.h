// PendingAnswer: what a caller waits for while a worker finds it out. The sender may be copied;
// when the last copy goes without an answer, the caller is told so. Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/result.h"

namespace kumoi::compute {

template <class Value>
class PendingAnswer {
    struct State {
        std::mutex mutex;
        std::condition_variable answered;
        std::optional<Result<Value>> answer;
    };

public:
    class Sender {
    public:
        explicit Sender(std::shared_ptr<State> state) : state_(std::move(state)) {}
        ~Sender() { set(Error::unavailable("The work was given up before it began")); }
        Sender(const Sender&) = delete;
        Sender& operator=(const Sender&) = delete;
        // The first answer counts.
        void set(Result<Value> answer) {
            const std::lock_guard lock(state_->mutex);
            if (!state_->answer) {
                state_->answer.emplace(std::move(answer));
                state_->answered.notify_all();
            }
        }

    private:
        const std::shared_ptr<State> state_;
    };

    // Shared: a std::function that holds it must be copyable.
    std::shared_ptr<Sender> sender() const { return std::make_shared<Sender>(state_); }
    Result<Value> wait(int64_t timeout_ms) {
        std::unique_lock lock(state_->mutex);
        const auto there = [this] { return state_->answer.has_value(); };
        if (!state_->answered.wait_for(lock, std::chrono::milliseconds(timeout_ms), there)) {
            return Error::timeout("The node has not answered within {} s; it goes on with it",
                                  timeout_ms / 1000)
                .with_hint("openstack server event list tells how it ended.");
        }
        return *state_->answer;
    }

private:
    std::shared_ptr<State> state_ = std::make_shared<State>();  // shared: with the worker
};

}  // namespace kumoi::compute
