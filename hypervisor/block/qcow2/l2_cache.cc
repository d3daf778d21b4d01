#include "hypervisor/block/qcow2/l2_cache.h"

#include <algorithm>

#include "base/assert.h"
#include "hypervisor/block/qcow2/format.h"

namespace kumoi::hypervisor::qcow2 {

struct L2Cache::WaitAwaiter {
    L2Cache& cache;
    IoPort& port;
    uint64_t index;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> handle) { return cache.wait(index, port, handle); }
    void await_resume() const noexcept {}
};

L2Cache::L2Cache(uint32_t slice_bytes, bool extended, uint64_t bytes_max)
    : slice_bytes_(slice_bytes),
      extended_(extended),
      entries_per_slice_(slice_bytes / (extended ? 16 : 8)),
      bytes_max_(bytes_max) {}

Task<int> L2Cache::pin(IoPort& port, uint64_t index, Source& source) {
    for (;;) {
        const Found found = pin_or_claim(index);
        if (found == Found::Pinned) {
            co_return 0;
        }
        if (found == Found::Loading) {
            co_await WaitAwaiter{*this, port, index};
            continue;  // it may have failed, or be gone again
        }
        std::vector<uint64_t> words(slice_bytes_ / 8);
        const int status = co_await source.read_slice(port, index, words);
        loaded(index, status, std::move(words));
        if (status < 0) {
            co_return status;
        }
    }
}

L2Cache::Found L2Cache::pin_or_claim(uint64_t index) {
    Shard& shard = shards_[index % kShards];
    const std::lock_guard lock(shard.mutex);
    std::unique_ptr<Slice>& slice = shard.slices[index];
    if (!slice) {
        slice = std::make_unique<Slice>();
        slice->index = index;
        slice->loading = true;
        return Found::Mine;
    }
    if (slice->loading) {
        return Found::Loading;
    }
    ++slice->pins;
    slice->used = ++shard.clock;
    return Found::Pinned;
}

bool L2Cache::wait(uint64_t index, IoPort& port, std::coroutine_handle<> handle) {
    Shard& shard = shards_[index % kShards];
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.slices.find(index);
    if (found == shard.slices.end() || !found->second->loading) {
        return false;
    }
    shard.waiters[index].push_back({&port, handle});
    return true;
}

void L2Cache::loaded(uint64_t index, int status, std::vector<uint64_t> words) {
    Shard& shard = shards_[index % kShards];
    std::vector<Waiter> waiters;
    {
        const std::lock_guard lock(shard.mutex);
        const auto found = shard.slices.find(index);
        if (status < 0) {
            shard.slices.erase(found);
        } else {
            found->second->loading = false;
            found->second->words = std::move(words);
            found->second->used = ++shard.clock;
            evict(shard);
        }
        if (const auto waiting = shard.waiters.find(index); waiting != shard.waiters.end()) {
            waiters = std::move(waiting->second);
            shard.waiters.erase(waiting);
        }
    }
    for (const Waiter& waiter : waiters) {
        waiter.port->post(waiter.handle);
    }
}

// Drops the longest unused eighth at once, so that the search costs little per slice.
void L2Cache::evict(Shard& shard) {
    const uint64_t slices_max = std::max<uint64_t>(bytes_max_ / slice_bytes_ / kShards, 2);
    if (shard.slices.size() <= slices_max) {
        return;
    }
    std::vector<std::pair<uint64_t, uint64_t>> candidates;  // last use, index
    for (const auto& [index, slice] : shard.slices) {
        if (!slice->dirty && !slice->loading && slice->pins == 0 && slice->used != shard.clock) {
            candidates.emplace_back(slice->used, index);
        }
    }
    std::sort(candidates.begin(), candidates.end());
    const size_t count =
        std::min(candidates.size(), shard.slices.size() - slices_max + slices_max / 8);
    for (size_t i = 0; i < count; ++i) {
        shard.slices.erase(candidates[i].second);
    }
}

void L2Cache::unpin(uint64_t index) {
    Shard& shard = shards_[index % kShards];
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.slices.find(index);
    KUMOI_ASSERT(found != shard.slices.end());
    --found->second->pins;
}

void L2Cache::set(Slice& slice, uint32_t entry, Entry value) {
    if (extended_) {
        slice.words[entry * 2] = value.descriptor;
        slice.words[entry * 2 + 1] = value.subclusters;
    } else {
        slice.words[entry] = value.descriptor;
    }
    if (!slice.dirty) {
        slice.dirty = true;
        dirty_.fetch_add(1, std::memory_order_relaxed);
    }
}

L2Cache::Entry L2Cache::get(const Slice& slice, uint32_t entry) const {
    if (extended_) {
        return {slice.words[entry * 2], slice.words[entry * 2 + 1]};
    }
    return {slice.words[entry], 0};
}

std::vector<L2Cache::Copy> L2Cache::take_dirty() {
    std::vector<Copy> copies;
    for (Shard& shard : shards_) {
        const std::lock_guard lock(shard.mutex);
        for (const auto& [index, slice] : shard.slices) {
            if (!slice->dirty) {
                continue;
            }
            slice->dirty = false;
            dirty_.fetch_sub(1, std::memory_order_relaxed);
            ++slice->pins;  // must not be dropped and read back before the copy is on disk
            Copy& copy = copies.emplace_back();
            copy.index = index;
            copy.words.reserve(slice->words.size());
            std::transform(slice->words.begin(), slice->words.end(), std::back_inserter(copy.words),
                           to_be64);
        }
    }
    std::sort(copies.begin(), copies.end(),
              [](const Copy& a, const Copy& b) { return a.index < b.index; });
    return copies;
}

void L2Cache::mark_dirty(uint64_t index) {
    Shard& shard = shards_[index % kShards];
    const std::lock_guard lock(shard.mutex);
    Slice& slice = *shard.slices.at(index);
    if (!slice.dirty) {
        slice.dirty = true;
        dirty_.fetch_add(1, std::memory_order_relaxed);
    }
}

void L2Cache::drop_clean() {
    for (Shard& shard : shards_) {
        const std::lock_guard lock(shard.mutex);
        std::erase_if(shard.slices, [](const auto& item) {
            return !item.second->dirty && !item.second->loading && item.second->pins == 0;
        });
    }
}

// For copying a whole table: what is newer here than on disk.
void L2Cache::overlay_dirty(uint64_t index, std::vector<uint64_t>& words) const {
    const Shard& shard = shards_[index % kShards];
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.slices.find(index);
    if (found != shard.slices.end() && !found->second->loading) {
        words = found->second->words;
    }
}

}  // namespace kumoi::hypervisor::qcow2
