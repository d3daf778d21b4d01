// WorkerPool: a fixed number of threads that run queued functions. The queue is bounded: submit()
// refuses with Unavailable when it is full, so overload is an answer and never a growing heap.
// stop() refuses new work and runs what is queued; join() waits. submit() from any thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"

namespace kumoi {

class WorkerPool {
public:
    // How threads are started from now on, in this process: for one that confines its threads.
    using Starter = std::function<std::thread(std::function<void()>)>;
    static void set_starter(Starter starter);

    WorkerPool(std::string name, size_t thread_count, size_t queue_length_max);
    ~WorkerPool();  // stop() and join()
    WorkerPool(const WorkerPool&) = delete;
    WorkerPool& operator=(const WorkerPool&) = delete;

    Result<void> submit(std::function<void()> function);
    void stop();
    void join();
    size_t queue_length() const;

private:
    void work();

    const std::string name_;
    const size_t queue_length_max_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> queue_;
    bool stopping_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace kumoi
