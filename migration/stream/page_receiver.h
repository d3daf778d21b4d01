// PageReceiver: puts the guest pages that come over the data streams of a migration into place, one
// thread a stream, directly from the socket into the guest's memory.
//
// A stream that has reached the barrier of a round waits there until all have: a page of a later
// round never meets an older copy of itself on another stream. The memory must be empty at first:
// zero pages that never held anything do not come at all.
// Events come on the receiver's threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/result.h"
#include "migration/stream/page_frame.h"
#include "migration/stream/stream_socket.h"

namespace kumoi::migration {

class PageReceiver {
public:
    struct Events {
        std::function<void(uint32_t round)> round_done;  // all streams are at its barrier
        std::function<void(const Error&)> failed;        // once; never after stop()
        // Disks that come with the memory. All three or none; where there are none, none may come.
        std::function<Result<uint64_t>(uint64_t disk)> disk_size;  // bytes
        // Granules of a disk, and the bytes of those with data.
        std::function<Result<void>(uint64_t disk, std::span<const PageRun> runs,
                                   std::span<const std::byte> bytes)>
            disk;
        std::function<Result<void>()> flush_disks;  // before a round is done
    };
    PageReceiver(std::vector<std::unique_ptr<StreamSocket>> streams, std::span<std::byte> memory,
                 Events events);
    ~PageReceiver();  // stops, waits
    PageReceiver(const PageReceiver&) = delete;
    PageReceiver& operator=(const PageReceiver&) = delete;

    void stop();
    // The last round has come on all streams, whose threads end by themselves.
    bool finished() const { return finished_.load(std::memory_order_acquire); }
    // Then: the streams, for another use.
    std::vector<std::unique_ptr<StreamSocket>> release_streams();
    uint64_t pages() const { return pages_received_.load(std::memory_order_relaxed); }
    uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

private:
    struct Worker {
        std::unique_ptr<StreamSocket> stream;
        uint64_t frames = 0;
        std::vector<std::byte> table, packed, copy;  // of its thread
        std::vector<iovec> vectors;
        std::thread thread;
    };
    void work(Worker& worker);
    Result<bool> take_frame(Worker& worker);  // false: it was the last
    Result<void> take_granules(Worker& worker, const FrameHeader& header);
    Result<void> take_pages(Worker& worker, const FrameHeader& header);
    Result<void> take_deltas(Worker& worker, const FrameHeader& header);
    Result<void> unpack(Worker& worker, uint64_t size);
    Result<void> take_packed(Worker& worker, const FrameHeader& header, uint64_t size);
    Result<bool> barrier(const Worker& worker, const FrameHeader& header);

    const std::span<std::byte> memory_;
    const Events events_;
    std::atomic<uint64_t> pages_received_{0};
    std::atomic<uint64_t> bytes_{0};
    std::atomic<bool> stopped_{false};
    std::atomic<bool> finished_{false};
    std::mutex mutex_;  // guards all below
    std::condition_variable changed_;
    uint32_t round_ = 0;  // the one that is coming in
    size_t arrived_ = 0;
    bool last_ = false;  // what the first that arrived said
    bool failed_ = false;
    std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace kumoi::migration
