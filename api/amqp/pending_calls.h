// PendingCalls: the remote calls that wait for an answer, by message id, and their deadlines. A
// total deadline stands; a monitor deadline moves with every sign of life. Thread safe; time is
// handed in, so that a test needs no waiting.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "base/json.h"

namespace kumoi::amqp {

class PendingCalls {
public:
    struct Limits {
        int64_t deadline_ns = 0;
        int64_t monitor_ns = 0;  // 0: none
    };

    // False when closed. `what` names the call in messages: "conductor.object_action".
    bool add(const std::string& id, const std::string& what, Limits limits, int64_t now_ns);
    // Waits until the call is settled, and forgets it.
    Result<Json> wait(const std::string& id);
    // Waits until `ready()` was called with true or the call is settled; false if it is settled.
    bool wait_ready(const std::string& id);
    void set_ready(bool ready);
    bool is_ready() const;

    bool settle(const std::string& id, Result<Json> outcome);  // false: nobody waits for it
    bool alive(const std::string& id, int64_t now_ns);         // a sign of life
    bool waits(const std::string& id) const;
    void expire(int64_t now_ns);
    std::optional<int64_t> next_deadline_ns() const;
    void close(const Error& error);  // settles all, refuses new ones, waits until none is left
    uint64_t expired() const;

private:
    using Deadlines = std::multimap<int64_t, std::string>;
    struct Call {
        std::condition_variable changed;
        std::optional<Result<Json>> outcome;
        std::string what;
        Limits limits;
        int64_t started_ns = 0;
        int64_t monitor_deadline_ns = INT64_MAX;
        Deadlines::iterator deadline;
    };
    void settle_locked(Call& call, Result<Json> outcome);
    void reschedule(const std::string& id, Call& call);

    mutable std::mutex mutex_;
    std::condition_variable emptied_;
    // unique_ptr: a condition variable cannot move.
    std::unordered_map<std::string, std::unique_ptr<Call>> calls_;
    Deadlines deadlines_;
    bool ready_ = false;
    bool closed_ = false;
    uint64_t expired_ = 0;
};

}  // namespace kumoi::amqp
