// BlockQueue: one request queue of a VirtioBlock: parses chains, holds back what the limits hold
// back, submits the rest to its own DiskQueue, and answers.
//
// With the write cache off, an answer to a write waits for a flush that began after the write was
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

#include "base/metrics.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/limits/throttle.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

// What all queues of one disk share.
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

class BlockQueue final : private DiskClient {
public:
    BlockQueue(BlockShared& shared, uint16_t index, uint16_t size);

    Result<void> start(VirtioContext& context);
    void process(Queue& queue);
    void quiesce();
    void stop();
    const BlockCounters& counters() const { return counters_; }

private:
    enum class Wait { None, Reads, Writes };  // which limits hold a request back
    struct Request {
        std::optional<Chain> chain;
        DiskOperation operation = DiskOperation::Read;
        uint64_t size = 0;
        bool durable = false;  // a flush before the answer
        DiskRequest disk;
    };
    void handle(Chain& chain);
    void handle_transfer(Chain& chain, DiskOperation operation, uint64_t sector);
    void handle_range(Chain& chain, DiskOperation operation);
    void handle_get_id(Chain& chain);
    void refuse(Chain& chain, uint8_t status);
    DiskRequest& scratch() { return requests_[free_.back()].disk; }
    void accept(Chain& chain, DiskOperation operation, uint64_t offset, uint64_t size);
    int64_t ask_limits(const Request& request);
    static Wait wait_of(DiskOperation operation);
    std::deque<uint32_t>& held(Wait wait) { return held_[wait == Wait::Writes ? 1 : 0]; }
    void start_waiting();
    void wake_after(int64_t wait_ns);
    void submit(uint32_t token);
    bool submit_now(uint32_t token);
    void disk_completed(uint32_t token, int result) override;
    void disk_batch_done() override;
    void flush_completed(int result);
    void start_flush();
    void answer(uint32_t token, int result);
    static void finish(Chain& chain, uint8_t status);
    void count(const Request& request);
    bool inside_disk(uint64_t sector, uint64_t size) const;

    BlockShared& shared_;
    const uint16_t index_;
    const uint16_t size_;
    VirtioContext* context_ = nullptr;
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
