// DiskStream: requests of one queue of a guest on their way to its disk: held back by what the
// limits hold back, submitted to a DiskQueue, made durable where they have to be, and reported.
//
//     chains[stream.next_token()] = std::move(chain);
//     stream.scratch().vectors = ...;
//     stream.accept({.operation = DiskOperation::Write, .offset = offset, .size = size});
//
// The report of a request that has to be durable waits for a flush that began after the write was
// done; writes that end together share one. Everything runs on the queue's I/O thread, but the
// counters, which anybody may read.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/metrics.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/limits/throttle.h"

namespace kumoi::hypervisor {

// What all streams to one disk share.
struct BlockShared {
    DiskImage& image;
    const std::string serial;
    DiskThrottle throttle;
    std::atomic<bool> write_cache{true};
    std::atomic<uint64_t> features{0};  // negotiated
};

struct BlockCounters {
    Counter reads, writes, flushes, discards, write_zeroes;
    Counter read_bytes, write_bytes, errors, malformed, throttled;
};

// Whose requests they are; called on the stream's thread.
class DiskStreamOwner {
public:
    virtual ~DiskStreamOwner() = default;
    virtual void request_done(uint32_t token, int result) = 0;  // 0, or a negative errno
    virtual void batch_done() = 0;                              // no further report follows at once
    virtual void take_turn() = 0;                               // process() is wanted, soon
};

class DiskStream final : private DiskClient {
public:
    struct Operation {
        DiskOperation operation = DiskOperation::Read;
        uint64_t offset = 0;
        uint64_t size = 0;
        bool durable = false;  // whatever the write cache's setting is
    };
    DiskStream(BlockShared& shared, DiskStreamOwner& owner, uint32_t size);

    Result<void> start(EventLoop& loop, const Clock& clock);
    void start_waiting();  // first in each turn
    bool has_room() const { return disk_full_.empty() && !free_.empty(); }
    uint32_t next_token() const { return free_.back(); }
    DiskRequest& scratch() { return requests_[free_.back()].disk; }
    // Takes next_token(); scratch() has the vectors and may_unmap. A report may come from inside.
    void accept(const Operation& operation);
    void kick() { disk_->kick(); }
    void quiesce();  // returns when all are reported, whatever the limits say
    void stop();
    bool started() const { return disk_ != nullptr; }
    uint32_t size() const { return size_; }
    BlockCounters& counters() { return counters_; }
    const BlockCounters& counters() const { return counters_; }

private:
    enum class Wait { None, Reads, Writes };  // which limits hold a request back
    struct Request {
        DiskOperation operation = DiskOperation::Read;
        uint64_t size = 0;
        bool durable = false;  // a flush before the report
        DiskRequest disk;
    };
    int64_t ask_limits(const Request& request);
    static Wait wait_of(DiskOperation operation);
    std::deque<uint32_t>& held(Wait wait) { return held_[wait == Wait::Writes ? 1 : 0]; }
    void wake_after(int64_t wait_ns);
    void submit(uint32_t token);
    bool submit_now(uint32_t token);
    void disk_completed(uint32_t token, int result) override;
    void disk_batch_done() override;
    void flush_completed(int result);
    void start_flush();
    void report(uint32_t token, int result);
    void count(const Request& request);

    BlockShared& shared_;
    DiskStreamOwner& owner_;
    const uint32_t size_;
    EventLoop* loop_ = nullptr;
    const Clock* clock_ = nullptr;
    std::unique_ptr<DiskQueue> disk_;
    std::vector<Request> requests_;  // by token; the last one is our own flush
    std::vector<uint32_t> free_;
    std::array<std::deque<uint32_t>, 2> held_;  // by the limits, in order
    std::deque<uint32_t> disk_full_;            // the disk queue had no room for these
    std::vector<uint32_t> written_;             // done, and waiting for a flush to begin
    std::vector<uint32_t> flushing_;            // waiting for the flush that runs
    bool flush_running_ = false;
    bool quiescing_ = false;
    std::optional<EventLoop::TimerId> timer_;
    BlockCounters counters_;
};

}  // namespace kumoi::hypervisor
