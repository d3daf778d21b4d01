// CopyGate: copy before write. A backup is to hold the disk as it was at one instant while the
// guest goes on writing: whatever still has to be copied may not change before it has been.
//
// The disk is cut into granules of 64 KiB. A granule is pending from need() to copied(); a request
// that changes a pending one is held back by its queue (live_disk.h), which asks here to have it
// copied first. need() before anything else; the rest from any thread; next() and copied() from the
// one that copies.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace kumoi::hypervisor {

// Told, on any thread, that something it waits for has been copied.
class GateWaiter {
public:
    virtual ~GateWaiter() = default;
    virtual void gate_moved() = 0;
};

class CopyGate {
public:
    static constexpr uint32_t kGranuleBits = 16;
    static constexpr uint64_t kGranule = uint64_t{1} << kGranuleBits;

    struct Piece {
        uint64_t offset = 0;
        uint64_t size = 0;  // bytes; the disk's last one may end inside a granule
    };

    explicit CopyGate(uint64_t disk_size);

    void need(uint64_t offset, uint64_t size);
    bool may_change(uint64_t offset, uint64_t size) const;

    // The range is copied next; `waiter` hears of all that is copied until it says forget().
    void want(GateWaiter& waiter, uint64_t offset, uint64_t size);
    void forget(GateWaiter& waiter);
    void wait(uint64_t offset, uint64_t size);  // until it may change

    // What to copy next, at most `size_max` bytes; nothing: all is done.
    std::optional<Piece> next(uint64_t size_max);
    void copied(const Piece& piece);
    // The backup has ended, well or not: everything may change.
    void open();

    uint64_t pending_bytes() const { return pending_count_.load() << kGranuleBits; }

private:
    bool pending(uint64_t granule) const;
    std::optional<Piece> run_from(uint64_t first, uint64_t last, uint64_t size_max) const;
    std::optional<Piece> wanted(uint64_t size_max);
    void tell();

    const uint64_t disk_size_;
    const uint64_t granules_;
    std::unique_ptr<std::atomic<uint64_t>[]> bits_;  // 1: pending
    std::atomic<uint64_t> pending_count_{0};
    std::atomic<bool> open_{false};
    uint64_t cursor_ = 0;  // of the thread that copies
    struct Range {
        uint64_t first;
        uint64_t last;
    };
    std::mutex mutex_;  // guards the rest
    std::condition_variable moved_;
    std::deque<Range> wanted_;
    std::vector<GateWaiter*> waiters_;
};

}  // namespace kumoi::hypervisor
