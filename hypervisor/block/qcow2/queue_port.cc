#include "hypervisor/block/qcow2/queue_port.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>

#include "base/assert.h"
#include "base/log.h"
#include "base/worker_pool.h"
#include "hypervisor/block/cached_writes.h"
#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/sandbox/ring_source.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr size_t kThreads = 4;

class UringPort final : public QueuePort {
public:
    ~UringPort() override {
        if (!ready_) {
            return;
        }
        if (in_flight_ != 0) {  // nobody else may see what comes of these
            io_uring_queue_exit(&ring_);
            return;
        }
        set_quiet(false);
        io_uring_unregister_eventfd(&ring_);
        give_ring(ring_);
    }
    Result<void> setup(EventLoop& loop);
    bool start(IoCall& call) override;
    void kick() override;
    void wait() override;

private:
    bool reap() override;
    // While completions are looked for anyway they need not ring.
    void set_quiet(bool quiet) override { (void)io_uring_cq_eventfd_toggle(&ring_, !quiet); }
    bool has_more() const override { return io_uring_cq_ready(&ring_) > 0; }
    void enqueue(IoCall& call);
    bool queue(IoCall& call);

    SystemClock clock_;
    CachedWrites cached_writes_{clock_};
    io_uring ring_{};
    bool ready_ = false;
    uint64_t in_flight_ = 0;       // in the ring and not answered
    std::deque<IoCall*> backlog_;  // found no room in the ring
};

Result<void> UringPort::setup(EventLoop& loop) {
    ring_ = TRY(take_ring());
    ready_ = true;
    TRY(open(loop));
    if (const int failed = io_uring_register_eventfd(&ring_, event_fd()); failed < 0) {
        return Error::from_errno(-failed, "registering io_uring's eventfd");
    }
    return {};
}

bool UringPort::start(IoCall& call) {
    if (call.kind == IoCall::Kind::Write && io_descriptor(call) == call.file->fd &&
        cached_writes_.at_once(call.size)) {
        int64_t result = 0;
        do {
            result = cached_writes_.write(call.file->fd, io_rest(call), call.offset + call.done);
        } while (!io_advance(call, result));
        return false;
    }
    enqueue(call);
    return true;
}

void UringPort::enqueue(IoCall& call) {
    if (!backlog_.empty() || !queue(call)) {
        backlog_.push_back(&call);
    }
}

bool UringPort::queue(IoCall& call) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
        io_uring_submit(&ring_);
        entry = io_uring_get_sqe(&ring_);
        if (entry == nullptr) {
            return false;
        }
    }
    const int fd = io_descriptor(call);
    const auto vectors = io_rest(call);
    const auto count = static_cast<unsigned>(std::min<size_t>(vectors.size(), 1024));  // IOV_MAX
    const uint64_t offset = call.offset + call.done;
    switch (call.kind) {
        case IoCall::Kind::Read:
            io_uring_prep_readv(entry, fd, vectors.data(), count, offset);
            break;
        case IoCall::Kind::Write:
            io_uring_prep_writev(entry, fd, vectors.data(), count, offset);
            break;
        case IoCall::Kind::Sync: io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC); break;
        case IoCall::Kind::PunchHole:
            io_uring_prep_rw(IORING_OP_FALLOCATE, entry, fd,
                             reinterpret_cast<const void*>(call.size),
                             FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset);
            break;
        case IoCall::Kind::Truncate:  // rings of older kernels have none, and it is quick
            io_uring_prep_nop(entry);
            break;
    }
    entry->user_data = reinterpret_cast<uint64_t>(&call);
    ++in_flight_;
    return true;
}

void UringPort::kick() {
    set_quiet(true);
    io_uring_submit(&ring_);
    run();
}

bool UringPort::reap() {
    bool any = false;
    io_uring_cqe* entry = nullptr;
    while (io_uring_peek_cqe(&ring_, &entry) == 0) {
        auto& call = *reinterpret_cast<IoCall*>(entry->user_data);
        int64_t result = entry->res;
        io_uring_cqe_seen(&ring_, entry);
        --in_flight_;
        any = true;
        if (call.kind == IoCall::Kind::Truncate) {
            result = io_system_call(call);
        }
        if (io_advance(call, result)) {
            io_complete(call);
        } else {
            enqueue(call);
        }
    }
    while (!backlog_.empty() && queue(*backlog_.front())) {
        backlog_.pop_front();
    }
    io_uring_submit(&ring_);
    return any;
}

void UringPort::wait() {
    io_uring_submit(&ring_);
    if (!reap() && io_uring_cq_ready(&ring_) == 0) {
        wait_for_event();  // a call, or another thread's post()
    }
    run();
}

class ThreadPort final : public QueuePort {
public:
    ThreadPort() : workers_("qcow2", kThreads, 4096) {}
    Result<void> setup(EventLoop& loop) { return open(loop); }
    bool start(IoCall& call) override {
        if (!workers_.submit([this, &call] { work(call); }).ok()) {
            work(call);  // the pool is full: slower, and right
        }
        return true;
    }
    void kick() override { run(); }
    void wait() override {
        if (!reap()) {
            wait_for_event();
        }
        run();
    }

private:
    void work(IoCall& call) {
        while (!io_advance(call, io_system_call(call))) {
        }
        {
            const std::lock_guard lock(mutex_);
            done_.push_back(&call);
        }
        wake();
    }
    bool reap() override {
        std::vector<IoCall*> done;
        {
            const std::lock_guard lock(mutex_);
            done.swap(done_);
        }
        for (IoCall* call : done) {
            io_complete(*call);
        }
        return !done.empty();
    }

    std::mutex mutex_;  // guards done_
    std::vector<IoCall*> done_;
    WorkerPool workers_;  // last: joined before what its threads use goes away
};

}  // namespace

Result<std::unique_ptr<QueuePort>> QueuePort::create(DiskEngine engine, EventLoop& loop) {
    if (engine != DiskEngine::Threads) {
        auto port = std::make_unique<UringPort>();
        auto ready = port->setup(loop);
        if (ready) {
            return Result<std::unique_ptr<QueuePort>>(std::move(port));
        }
        if (engine == DiskEngine::Uring) {
            return std::move(ready).error();
        }
        log_info("block", "no io_uring, using threads", {{"reason", ready.error().text()}});
    }
    auto port = std::make_unique<ThreadPort>();
    TRY(port->setup(loop));
    return Result<std::unique_ptr<QueuePort>>(std::move(port));
}

Result<void> QueuePort::open(EventLoop& loop) {
    event_ = TRY(make_eventfd());
    watch_ = TRY(loop.watch(event_.get(), EventLoop::kReadable, [this](uint32_t /*events*/) {
        uint64_t count = 0;
        [[maybe_unused]] const ssize_t size = ::read(event_.get(), &count, sizeof(count));
        run();
    }));
    return {};
}

void QueuePort::post(std::coroutine_handle<> handle) {
    if (std::this_thread::get_id() == thread_) {
        local_.push_back(handle);
        if (!running_) {
            wake();
        }
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        remote_.push_back(handle);
    }
    wake();
}

void QueuePort::wake() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t size = ::write(event_.get(), &one, sizeof(one));
}

void QueuePort::wait_for_event() {
    pollfd descriptor{event_.get(), POLLIN, 0};
    if (::poll(&descriptor, 1, -1) > 0) {
        uint64_t count = 0;
        [[maybe_unused]] const ssize_t size = ::read(event_.get(), &count, sizeof(count));
    }
}

bool QueuePort::resume_posted() {
    std::vector<std::coroutine_handle<>> ready;
    ready.swap(local_);
    {
        const std::lock_guard lock(mutex_);
        ready.insert(ready.end(), remote_.begin(), remote_.end());
        remote_.clear();
    }
    for (const auto handle : ready) {
        handle.resume();
    }
    return !ready.empty();
}

void QueuePort::run() {
    running_ = true;
    do {
        set_quiet(true);
        for (bool more = true; more;) {
            const bool reaped = reap();
            more = resume_posted() || reaped;
        }
        set_quiet(false);
    } while (has_more());  // what completed before they could ring again
    running_ = false;
    if (round_) {
        round_();
    }
}

}  // namespace kumoi::hypervisor::qcow2
