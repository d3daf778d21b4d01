// The thread engine: a few workers make the system calls; an eventfd tells the loop of completions.
// For hosts without io_uring (old kernels, seccomp profiles, kernel.io_uring_disabled).

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>

#include "base/worker_pool.h"
#include "hypervisor/block/raw_queue.h"

namespace kumoi::hypervisor {

namespace {

constexpr size_t kWorkerCount = 4;

class ThreadQueue final : public RawQueue {
public:
    ThreadQueue(const RawFile& file, DiskClient& client)
        : RawQueue(file, client), workers_("disk", kWorkerCount, kDepth) {}

    Result<void> open(EventLoop& loop);
    void kick() override {}  // every submit starts at once
    void drain() override;

private:
    void start(uint32_t slot) override;
    void run(uint32_t slot);  // on a worker
    int64_t call(const RawOperation::Step& step) const;
    void reap();

    UniqueFd completions_;
    EventLoop::Watch watch_;
    std::mutex mutex_;  // guards done_
    std::condition_variable changed_;
    std::vector<uint32_t> done_;
    WorkerPool workers_;  // last: joined before what its threads use goes away
};

Result<void> ThreadQueue::open(EventLoop& loop) {
    completions_ = TRY(make_eventfd());
    watch_ = TRY(loop.watch(completions_.get(), EventLoop::kReadable, [this](uint32_t /*events*/) {
        uint64_t count = 0;
        [[maybe_unused]] const ssize_t size = ::read(completions_.get(), &count, sizeof(count));
        reap();
    }));
    return {};
}

void ThreadQueue::start(uint32_t slot) {
    if (!workers_.submit([this, slot] { run(slot); }).ok()) {
        run(slot);  // cannot be full: as much room as operations. Correct even so.
    }
}

void ThreadQueue::run(uint32_t slot) {
    RawOperation& current = operation(slot);
    while (!current.advance(call(current.step()))) {
    }
    {
        const std::lock_guard lock(mutex_);
        done_.push_back(slot);
        changed_.notify_one();
    }
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t size = ::write(completions_.get(), &one, sizeof(one));
}

int64_t ThreadQueue::call(const RawOperation::Step& step) const {
    const auto count = static_cast<int>(step.vectors.size());
    const auto offset = static_cast<off_t>(step.offset);
    int64_t result = -1;
    switch (step.call) {
        case RawOperation::Call::Read:
            result = ::preadv(file_.fd, step.vectors.data(), count, offset);
            break;
        case RawOperation::Call::Write:
            result = ::pwritev(file_.fd, step.vectors.data(), count, offset);
            break;
        case RawOperation::Call::Sync: result = ::fdatasync(file_.fd); break;
        case RawOperation::Call::Allocate:
            result = ::fallocate(file_.fd, step.mode, offset, static_cast<off_t>(step.size));
            break;
    }
    return result < 0 ? -errno : result;
}

void ThreadQueue::reap() {
    std::vector<uint32_t> done;
    {
        const std::lock_guard lock(mutex_);
        done.swap(done_);
    }
    for (const uint32_t slot : done) {
        finish(slot);
    }
    batch_done();
}

void ThreadQueue::drain() {
    while (in_flight() > 0) {
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return !done_.empty(); });
        }
        reap();
    }
}

}  // namespace

Result<std::unique_ptr<DiskQueue>> make_thread_queue(const RawFile& file, EventLoop& loop,
                                                     DiskClient& client) {
    auto queue = std::make_unique<ThreadQueue>(file, client);
    TRY(queue->open(loop));
    return Result<std::unique_ptr<DiskQueue>>(std::move(queue));
}

}  // namespace kumoi::hypervisor
