#include "base/worker_pool.h"

#include <pthread.h>

namespace kumoi {

namespace {
// Set before there are pools that other threads make.
WorkerPool::Starter& starter() {
    static WorkerPool::Starter instance = [](std::function<void()> function) {
        return std::thread(std::move(function));
    };
    return instance;
}
}  // namespace

void WorkerPool::set_starter(Starter how) {
    starter() = std::move(how);
}

WorkerPool::WorkerPool(std::string name, size_t thread_count, size_t queue_length_max)
    : name_(std::move(name)), queue_length_max_(queue_length_max) {
    KUMOI_ASSERT(thread_count > 0);
    threads_.reserve(thread_count);
    for (size_t index = 0; index < thread_count; ++index) {
        threads_.push_back(starter()([this] { work(); }));
    }
}

WorkerPool::~WorkerPool() {
    stop();
    join();
}

Result<void> WorkerPool::submit(std::function<void()> function) {
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) {
            return Error::unavailable("{} is stopping and takes no more work", name_);
        }
        if (queue_.size() >= queue_length_max_) {
            return Error::unavailable("{} is overloaded: {} jobs wait already", name_,
                                      queue_.size())
                .with_hint("Try again in a moment.");
        }
        queue_.push_back(std::move(function));
    }
    changed_.notify_one();
    return {};
}

void WorkerPool::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
}

void WorkerPool::join() {
    for (std::thread& thread : threads_) {
        if (thread.joinable()) {
            thread.join();
        }
    }
}

size_t WorkerPool::queue_length() const {
    const std::lock_guard lock(mutex_);
    return queue_.size();
}

void WorkerPool::work() {
    ::pthread_setname_np(::pthread_self(), name_.substr(0, 15).c_str());
    while (true) {
        std::function<void()> function;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
            if (queue_.empty()) {
                return;
            }
            function = std::move(queue_.front());
            queue_.pop_front();
        }
        function();
    }
}

}  // namespace kumoi
