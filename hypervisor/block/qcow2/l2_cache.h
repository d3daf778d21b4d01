// L2Cache: slices of L2 tables in memory. A slice is 4 KiB of a table (or the whole table when that
// is smaller), found by its number in the virtual disk.
//
// Sharded: each shard has its own short lock, so queues rarely meet, and a request whose slice is
// here needs no other lock. A missing slice is read by one request while others wait. Changed
// slices stay until a commit (commit.cc) has written them; clean ones go when the cache is over its
// limit.
#pragma once

#include <array>
#include <atomic>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "hypervisor/block/qcow2/io_port.h"
#include "hypervisor/block/qcow2/task.h"

namespace kumoi::hypervisor::qcow2 {

class L2Cache {
public:
    static constexpr uint32_t kSliceBytesMax = 4096;

    struct Entry {
        uint64_t descriptor = 0;
        uint64_t subclusters = 0;  // extended L2 only
    };
    struct Slice {
        uint64_t index = 0;
        bool dirty = false;
        bool loading = false;
        uint32_t pins = 0;
        uint64_t used = 0;            // clock of the last use
        std::vector<uint64_t> words;  // host byte order; descriptor, or descriptor and subclusters
    };
    // Where a slice is on disk: 0 when its table does not exist. Errors are negative.
    struct Source {
        virtual ~Source() = default;
        virtual Task<int> read_slice(IoPort& port, uint64_t index,
                                     std::vector<uint64_t>& words) = 0;
    };

    L2Cache(uint32_t slice_bytes, bool extended, uint64_t bytes_max);

    uint32_t entries_per_slice() const { return entries_per_slice_; }
    uint32_t slice_bytes() const { return slice_bytes_; }

    // Calls visit(slice) under the shard's lock, at once. False when the slice is not here.
    template <class Visit>
    bool with_slice(uint64_t index, Visit&& visit) {
        Shard& shard = shards_[index % kShards];
        const std::lock_guard lock(shard.mutex);
        const auto found = shard.slices.find(index);
        if (found == shard.slices.end() || found->second->loading) {
            return false;
        }
        Slice& slice = *found->second;
        slice.used = ++shard.clock;
        visit(slice);
        return true;
    }
    // Reads the slice if it is missing and keeps it until unpin().
    Task<int> pin(IoPort& port, uint64_t index, Source& source);
    void unpin(uint64_t index);
    // For a table that has just been made: all zero, pinned.
    void set(Slice& slice, uint32_t entry, Entry value);
    Entry get(const Slice& slice, uint32_t entry) const;

    uint64_t dirty_count() const { return dirty_.load(std::memory_order_relaxed); }
    bool over_dirty_limit() const { return dirty_count() * slice_bytes_ > bytes_max_ / 2; }
    struct Copy {
        uint64_t index = 0;
        std::vector<uint64_t> words;  // big endian
    };
    std::vector<Copy> take_dirty();   // copies, and marks them clean
    void mark_dirty(uint64_t index);  // after a failed write
    void drop_clean();                // all that may go
    void overlay_dirty(uint64_t index, std::vector<uint64_t>& words) const;

private:
    static constexpr size_t kShards = 32;
    struct Waiter {
        IoPort* port;
        std::coroutine_handle<> handle;
    };
    struct Shard {
        mutable std::mutex mutex;  // guards the rest
        std::unordered_map<uint64_t, std::unique_ptr<Slice>> slices;
        std::unordered_map<uint64_t, std::vector<Waiter>> waiters;  // of slices being read
        uint64_t clock = 0;
    };
    enum class Found { Pinned, Loading, Mine };
    struct WaitAwaiter;
    Found pin_or_claim(uint64_t index);
    bool wait(uint64_t index, IoPort& port, std::coroutine_handle<> handle);
    void loaded(uint64_t index, int status, std::vector<uint64_t> words);
    void evict(Shard& shard);

    const uint32_t slice_bytes_;
    const bool extended_;
    const uint32_t entries_per_slice_;
    const uint64_t bytes_max_;
    std::array<Shard, kShards> shards_;
    std::atomic<uint64_t> dirty_{0};
};

}  // namespace kumoi::hypervisor::qcow2
