// ServerQueue: one operation per server at a time, in the order they came (Nova's per-instance
// lock); operations of different servers run side by side on the executor's threads. Builds are
// also limited in number: a server whose turn is a build waits, holding no thread, until another
// build has ended. submit() from any thread; functions run on the executor and may block.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/result.h"

namespace kumoi::compute {

class ServerQueue {
public:
    // Runs a function on another thread, or refuses. Tests pass one that runs it at once.
    using Executor = std::function<Result<void>(std::function<void()>)>;
    enum class Lane { Build, Other };
    static constexpr size_t kQueuedPerServerMax = 64;

    ServerQueue(Executor executor, size_t builds_max);

    Result<void> submit(const std::string& uuid, Lane lane, std::function<void()> function);
    void stop();       // refuses new work; what is queued still runs
    void wait_idle();  // until nothing is queued or running
    size_t servers_busy() const;

private:
    struct Item {
        Lane lane;
        std::function<void()> function;
    };
    struct Turn {  // what one server does next
        enum class Kind { Run, Park, Idle } kind;
        Item item;
    };
    void run_server(const std::string& uuid);
    Turn next_turn(const std::string& uuid);
    std::optional<std::string> finish(Lane lane);
    bool withdraw_first(const std::string& uuid);

    const Executor executor_;
    const size_t builds_max_;
    mutable std::mutex mutex_;  // guards everything below
    std::condition_variable idle_;
    std::unordered_map<std::string, std::deque<Item>>
        servers_;                     // present: queued, parked or running
    std::deque<std::string> parked_;  // servers waiting for a build slot
    size_t builds_running_ = 0;
    bool stopping_ = false;
};

}  // namespace kumoi::compute
