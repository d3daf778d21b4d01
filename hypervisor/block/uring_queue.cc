// The io_uring engine: one small ring for one queue; an eventfd tells the loop of completions.
// Small buffered writes do not go through the ring (cached_writes.h).

#include <liburing.h>
#include <unistd.h>

#include <cerrno>

#include "base/assert.h"
#include "hypervisor/block/cached_writes.h"
#include "hypervisor/block/raw_queue.h"
#include "hypervisor/sandbox/ring_source.h"

namespace kumoi::hypervisor {

namespace {

static_assert(RawQueue::kDepth <= kRingEntries);

class UringQueue final : public RawQueue {
public:
    UringQueue(const RawFile& file, DiskClient& client) : RawQueue(file, client) {}
    ~UringQueue() override {
        watch_.reset();
        if (ready_) {
            io_uring_unregister_eventfd(&ring_);
            give_ring(ring_);
        }
    }

    Result<void> open(EventLoop& loop);
    void kick() override;
    void drain() override;

private:
    void start(uint32_t slot) override;
    void enqueue(uint32_t slot, const RawOperation::Step& step);
    void completed(uint32_t slot, int64_t result);
    void reap();

    struct Written {
        uint32_t slot = 0;
        int64_t result = 0;
    };
    SystemClock clock_;
    CachedWrites cached_writes_{clock_};
    std::vector<Written> written_;  // by this thread; told when completions are looked for
    io_uring ring_{};
    bool ready_ = false;
    bool reaping_ = false;
    UniqueFd completions_;
    EventLoop::Watch watch_;
};

Result<void> UringQueue::open(EventLoop& loop) {
    ring_ = TRY(take_ring());
    ready_ = true;
    completions_ = TRY(make_eventfd());
    if (const int failed = io_uring_register_eventfd(&ring_, completions_.get()); failed < 0) {
        return Error::from_errno(-failed, "registering io_uring's eventfd");
    }
    watch_ = TRY(loop.watch(completions_.get(), EventLoop::kReadable, [this](uint32_t /*events*/) {
        uint64_t count = 0;
        [[maybe_unused]] const ssize_t size = ::read(completions_.get(), &count, sizeof(count));
        reap();
    }));
    return {};
}

void UringQueue::start(uint32_t slot) {
    const RawOperation::Step step = operation(slot).step();
    if (step.call == RawOperation::Call::Write && !file_.direct &&
        cached_writes_.at_once(step.size)) {
        written_.push_back({slot, cached_writes_.write(file_.fd, step.vectors, step.offset)});
    } else {
        enqueue(slot, step);
    }
}

void UringQueue::enqueue(uint32_t slot, const RawOperation::Step& step) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {  // as many operations as entries: only when some are not submitted yet
        io_uring_submit(&ring_);
        entry = io_uring_get_sqe(&ring_);
    }
    KUMOI_ASSERT(entry != nullptr);
    const auto count = static_cast<unsigned>(step.vectors.size());
    switch (step.call) {
        case RawOperation::Call::Read:
            io_uring_prep_readv(entry, file_.fd, step.vectors.data(), count, step.offset);
            break;
        case RawOperation::Call::Write:
            io_uring_prep_writev(entry, file_.fd, step.vectors.data(), count, step.offset);
            break;
        case RawOperation::Call::Sync:
            io_uring_prep_fsync(entry, file_.fd, IORING_FSYNC_DATASYNC);
            break;
        case RawOperation::Call::Allocate:
            io_uring_prep_rw(IORING_OP_FALLOCATE, entry, file_.fd,
                             reinterpret_cast<const void*>(step.size),
                             static_cast<unsigned>(step.mode), step.offset);
            break;
    }
    entry->user_data = slot;
}

// An error (EAGAIN, EBUSY) leaves the entries in the ring: the next completion submits them. What
// the page cache answers at once is handed back at once, without a way through the eventfd.
void UringQueue::kick() {
    if (reaping_) {
        io_uring_submit(&ring_);
        return;
    }
    (void)io_uring_cq_eventfd_toggle(&ring_, false);
    io_uring_submit(&ring_);
    (void)io_uring_cq_eventfd_toggle(&ring_, true);
    // After the toggle: a completion is either seen here or signals.
    if (!written_.empty() || io_uring_cq_ready(&ring_) > 0) {
        reap();
    }
}

void UringQueue::completed(uint32_t slot, int64_t result) {
    if (operation(slot).advance(result)) {
        finish(slot);
    } else {
        start(slot);
    }
}

void UringQueue::reap() {
    reaping_ = true;
    io_uring_cqe* entry = nullptr;
    for (;;) {
        if (!written_.empty()) {
            const Written written = written_.back();
            written_.pop_back();
            completed(written.slot, written.result);
        } else if (io_uring_peek_cqe(&ring_, &entry) == 0) {
            const auto slot = static_cast<uint32_t>(entry->user_data);
            const int result = entry->res;
            io_uring_cqe_seen(&ring_, entry);
            completed(slot, result);
        } else {
            break;
        }
    }
    io_uring_submit(&ring_);
    batch_done();
    reaping_ = false;
}

void UringQueue::drain() {
    while (in_flight() > 0) {
        if (written_.empty()) {
            io_uring_submit_and_wait(&ring_, 1);
        }
        reap();
    }
}

}  // namespace

Result<std::unique_ptr<DiskQueue>> make_uring_queue(const RawFile& file, EventLoop& loop,
                                                    DiskClient& client) {
    auto queue = std::make_unique<UringQueue>(file, client);
    TRY(queue->open(loop));
    return Result<std::unique_ptr<DiskQueue>>(std::move(queue));
}

}  // namespace kumoi::hypervisor
