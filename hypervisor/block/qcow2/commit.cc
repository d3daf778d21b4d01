// Commit: brings the metadata on disk up to what is in memory, in an order that a power cut at any
// point leaves a sound image.
//
//   0. new refcount blocks                                       sync
//   1. refcounts, table entries of new blocks, new L2 tables;
//      all data written so far                                   sync
//   2. entries of existing L2 tables, L1 entries                 sync
//   3. what these no longer refer to: refcounts go down in memory, and reach the disk in step 1 of
//      a later commit
//
// What changes while a commit runs belongs to the next one. After a failed sync the kernel may have
// dropped what it could not write, so no later flush of this open image succeeds.
#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "hypervisor/block/qcow2/store.h"

namespace kumoi::hypervisor::qcow2 {

struct Store::Snapshot {
    std::vector<ClusterRun> freed;
    std::vector<Refcounts::BlockCopy> blocks;
    std::vector<L2Cache::Copy> slices;
    std::vector<uint64_t> slice_tables;  // host offset of each slice
    std::set<uint64_t> l1;
    std::set<uint64_t> new_tables;
    std::vector<std::pair<uint64_t, std::vector<uint64_t>>> l1_sectors;  // file offset, big endian
    std::vector<std::pair<uint64_t, uint64_t>> table_entries;  // file offset, big endian value
    bool new_blocks = false;
    bool ordered = false;
    bool empty() const { return freed.empty() && blocks.empty() && slices.empty() && l1.empty(); }
};

// Requests that arrive while a commit runs share the next one.
Task<int> Store::flush(IoPort& port) {
    const uint64_t ticket = flush_requests_.fetch_add(1) + 1;
    auto hold = co_await commit_lock_.lock(port);
    if (flush_done_ >= ticket) {
        co_return flush_status_;
    }
    const uint64_t covered = flush_requests_.load();
    flush_status_ = co_await commit(port);
    flush_done_ = covered;
    co_return flush_status_;
}

Task<int> Store::commit(IoPort& port) {
    if (sync_failed_) {
        co_return -EIO;
    }
    if (!options_.writable) {
        co_return 0;
    }
    if (corruption_unsaved_.exchange(false) && version_ >= 3) {
        Header header = header_;
        header.incompatible |= kIncompatibleCorrupt;
        const int marked = co_await store_header(port, header);
        if (marked < 0) {
            co_return marked;
        }
    }
    if (corrupt_ || (!changed_.exchange(false) && !quarantined_)) {
        co_return co_await sync(port);
    }
    Snapshot snapshot;
    int status = co_await take_snapshot(port, snapshot);
    if (status == 0) {
        status = co_await write_snapshot(port, snapshot);
    }
    co_return co_await settle(port, snapshot, status);
}

Task<int> Store::take_snapshot(IoPort& port, Snapshot& snapshot) {
    auto meta = co_await meta_.lock(port);
    if (refcounts_.table_too_small()) {
        const int status = co_await grow_refcount_table(port);
        if (status < 0) {
            co_return status;
        }
    }
    {
        // First what was freed: each is freed only after its entry has changed.
        const std::lock_guard lock(lists_);
        snapshot.freed.swap(freed_);
        freed_count_ = 0;
        snapshot.l1.swap(l1_dirty_);
        snapshot.new_tables.swap(new_tables_);
    }
    snapshot.slices = l2_.take_dirty();
    snapshot.ordered = ordered_.exchange(false);  // after: set before an entry that depends on it
    if (!header_.lazy_refcounts() || full_commit_) {
        snapshot.new_blocks = refcounts_.any_new();
        snapshot.blocks = refcounts_.take_dirty();
    }
    const std::atomic<uint64_t>* l1 = l1_.load();
    const uint64_t slices_per_table = cluster_size_ / l2_.slice_bytes();
    for (const L2Cache::Copy& slice : snapshot.slices) {
        snapshot.slice_tables.push_back((l1[slice.index / slices_per_table] & kOffsetMask) +
                                        slice.index % slices_per_table * l2_.slice_bytes());
    }
    constexpr uint64_t kPerSector = 64;
    for (auto it = snapshot.l1.begin(); it != snapshot.l1.end();) {
        const uint64_t first = *it / kPerSector * kPerSector;
        std::vector<uint64_t> words;
        for (uint64_t i = first; i < std::min(first + kPerSector, l1_count_); ++i) {
            words.push_back(to_be64(l1[i]));
        }
        snapshot.l1_sectors.emplace_back(header_.l1_offset + first * 8, std::move(words));
        it = snapshot.l1.lower_bound(first + kPerSector);
    }
    for (const Refcounts::BlockCopy& block : snapshot.blocks) {
        if (block.is_new) {
            snapshot.table_entries.emplace_back(refcounts_.table_offset() + block.index * 8,
                                                to_be64(refcounts_.table()[block.index]));
        }
    }
    co_return 0;
}

Task<int> Store::write_snapshot(IoPort& port, Snapshot& snapshot) {
    int status = 0;
    const bool lazy = header_.lazy_refcounts() && !full_commit_;
    if (lazy && (header_.incompatible & kIncompatibleDirty) == 0) {
        status = co_await set_dirty_bit(port, true);
    }
    if (status == 0 && snapshot.new_blocks) {
        status = co_await write_refcounts(port, snapshot, true);
        if (status == 0) {
            status = co_await sync(port);
        }
    }
    if (status == 0) {
        status = co_await write_refcounts(port, snapshot, false);
    }
    for (const auto& [offset, value] : snapshot.table_entries) {
        if (status == 0) {
            const iovec vector{const_cast<uint64_t*>(&value), 8};
            status = co_await io_write(port, *file_, offset, std::span(&vector, 1), 8);
        }
    }
    if (status == 0) {
        status = co_await write_slices(port, snapshot, true);
    }
    const bool entries = !snapshot.slices.empty() || !snapshot.l1.empty();
    const bool before = !snapshot.blocks.empty() || !snapshot.new_tables.empty();
    if (status == 0 && entries && (before || snapshot.ordered)) {
        status = co_await sync(port);
    }
    if (status == 0) {
        status = co_await write_slices(port, snapshot, false);
    }
    for (const auto& [offset, words] : snapshot.l1_sectors) {
        if (status == 0) {
            const iovec vector{const_cast<uint64_t*>(words.data()), words.size() * 8};
            status = co_await io_write(port, *file_, offset, std::span(&vector, 1), vector.iov_len);
        }
    }
    if (status == 0) {
        status = co_await sync(port);
    }
    co_return status;
}

Task<int> Store::write_refcounts(IoPort& port, const Snapshot& snapshot, bool new_ones) {
    std::vector<std::unique_ptr<IoCall>> calls;
    std::vector<iovec> vectors;
    vectors.reserve(snapshot.blocks.size());
    for (const Refcounts::BlockCopy& block : snapshot.blocks) {
        if (block.is_new != new_ones) {
            continue;
        }
        vectors.push_back({const_cast<uint8_t*>(block.bytes.data()), block.bytes.size()});
        auto& call = calls.emplace_back(std::make_unique<IoCall>());
        call->kind = IoCall::Kind::Write;
        call->file = file_.get();
        call->offset = block.offset;
        call->size = block.bytes.size();
        call->vectors = {&vectors.back(), 1};
    }
    co_return co_await IoAll{port, calls, {}};
}

// Neighbours go in one write.
Task<int> Store::write_slices(IoPort& port, const Snapshot& snapshot, bool new_tables) {
    const uint64_t slices_per_table = cluster_size_ / l2_.slice_bytes();
    constexpr size_t kVectorsMax = 256;
    std::vector<std::unique_ptr<IoCall>> calls;
    std::vector<std::vector<iovec>> vectors(snapshot.slices.size());
    for (size_t i = 0; i < snapshot.slices.size(); ++i) {
        const L2Cache::Copy& slice = snapshot.slices[i];
        if (snapshot.new_tables.contains(slice.index / slices_per_table) != new_tables) {
            continue;
        }
        const uint64_t offset = snapshot.slice_tables[i];
        const iovec vector{const_cast<uint64_t*>(slice.words.data()), slice.words.size() * 8};
        if (!calls.empty() && calls.back()->offset + calls.back()->size == offset &&
            calls.back()->vectors.size() < kVectorsMax) {
            auto& list = vectors[calls.size() - 1];
            list.push_back(vector);
            calls.back()->vectors = list;
            calls.back()->size += vector.iov_len;
            continue;
        }
        auto& call = calls.emplace_back(std::make_unique<IoCall>());
        auto& list = vectors[calls.size() - 1];
        list.push_back(vector);
        call->kind = IoCall::Kind::Write;
        call->file = file_.get();
        call->offset = offset;
        call->size = vector.iov_len;
        call->vectors = list;
    }
    co_return co_await IoAll{port, calls, {}};
}

// With meta_ held. The new table and all blocks are on disk before the header points to them.
Task<int> Store::grow_refcount_table(IoPort& port) {
    ClusterRun old;
    int status = co_await refcounts_.place_table(port, old);
    if (status == 0) {
        status = co_await extend_file(port);
    }
    if (status < 0) {
        co_return failed(status, refcounts_.error());
    }
    Snapshot blocks;
    blocks.blocks = refcounts_.take_dirty();
    status = co_await write_refcounts(port, blocks, true);
    if (status == 0) {
        status = co_await write_refcounts(port, blocks, false);
    }
    std::vector<uint64_t> table(refcounts_.table_clusters() * cluster_size_ / 8);
    std::transform(refcounts_.table().begin(), refcounts_.table().end(), table.begin(), to_be64);
    const iovec vector{table.data(), table.size() * 8};
    if (status == 0) {
        status = co_await io_write(port, *file_, refcounts_.table_offset(), std::span(&vector, 1),
                                   vector.iov_len);
    }
    if (status == 0) {
        status = co_await sync(port);
    }
    if (status == 0) {
        Header header = header_;
        header.refcount_table_offset = refcounts_.table_offset();
        header.refcount_table_clusters = static_cast<uint32_t>(refcounts_.table_clusters());
        status = co_await store_header(port, header);
    }
    if (status == 0) {
        status = co_await sync(port);
    }
    for (const Refcounts::BlockCopy& block : blocks.blocks) {
        refcounts_.written(block, status == 0);
    }
    if (status < 0) {
        sync_failed_ = true;  // which of the two tables is in force is not known any more
        co_return status;
    }
    refcounts_.table_written();
    free_later(old.first, old.count);
    co_return 0;
}

// After the attempt: success lets go of what was freed, failure puts everything back.
Task<int> Store::settle(IoPort& port, Snapshot& snapshot, int status) {
    const bool success = status == 0;
    {
        auto meta = co_await meta_.lock(port);
        for (const Refcounts::BlockCopy& block : snapshot.blocks) {
            refcounts_.written(block, success);
        }
        for (const L2Cache::Copy& slice : snapshot.slices) {
            if (!success) {
                l2_.mark_dirty(slice.index);
            }
            l2_.unpin(slice.index);
        }
        if (success) {
            quarantine_new_.insert(quarantine_new_.end(), snapshot.freed.begin(),
                                   snapshot.freed.end());
        } else {
            const std::lock_guard lock(lists_);
            freed_.insert(freed_.begin(), snapshot.freed.begin(), snapshot.freed.end());
            freed_count_ = freed_.size();
            l1_dirty_.merge(snapshot.l1);
            new_tables_.merge(snapshot.new_tables);
            ordered_ = true;
            changed_ = true;
        }
    }
    if (success) {
        status = co_await release_quarantine(port);
    }
    co_return status;
}

// Clusters that no entry on disk and no request in flight refers to lose their reference.
Task<int> Store::release_quarantine(IoPort& port) {
    std::vector<ClusterRun> runs;
    {
        auto meta = co_await meta_.lock(port);
        for (int turn = 0; turn < 2; ++turn) {
            const uint64_t now = generation_.load();
            if (in_flight_[(now + 1) & 1] != 0) {
                break;
            }
            runs.insert(runs.end(), quarantine_old_.begin(), quarantine_old_.end());
            quarantine_old_ = std::exchange(quarantine_new_, {});
            generation_ = now + 1;
        }
        quarantined_ = !quarantine_old_.empty() || !quarantine_new_.empty();
        if (runs.empty()) {
            co_return 0;
        }
    }
    auto meta = co_await meta_.lock(port);
    for (const ClusterRun& run : runs) {
        for (uint64_t cluster = run.first; cluster < run.first + run.count; ++cluster) {
            uint64_t count = 0;
            int status = co_await refcounts_.get(port, cluster, count);
            const bool last = status == 0 && count == 1;
            bool zero = false;
            if (last && file_->holes_are_zero) {
                const uint64_t offset = cluster << cluster_bits_;
                const int punched = co_await io_punch(port, *file_, offset, cluster_size_);
                zero = punched == 0;
                ordered_ = true;
            }
            if (status == 0) {
                status = co_await refcounts_.add(port, cluster, -1);
            }
            if (status < 0) {  // the rest leaks; a check finds and mends it
                co_return failed(status, refcounts_.error());
            }
            if (last) {
                metadata_.remove(cluster);
                if (refcounts_.scan_passed(cluster)) {
                    refcounts_.give_back({cluster, 1, zero});
                }
            }
        }
    }
    changed_ = true;
    co_return 0;
}

Task<int> Store::sync(IoPort& port) {
    const int status = co_await io_sync(port, *file_);
    if (status < 0) {
        sync_failed_ = true;
        co_return failed(status,
                         "syncing failed; what was written since the last flush may be lost");
    }
    co_return 0;
}

Task<int> Store::set_dirty_bit(IoPort& port, bool dirty) {
    Header header = header_;
    header.incompatible = dirty ? header.incompatible | kIncompatibleDirty
                                : header.incompatible & ~kIncompatibleDirty;
    int status = co_await store_header(port, header);
    if (status == 0) {
        status = co_await sync(port);
    }
    co_return status;
}

Task<int> Store::store_header(IoPort& port, const Header& header) {
    auto bytes = serialize_header(header);
    if (!bytes) {
        co_return failed(-E2BIG, bytes.error().text());
    }
    const iovec vector{bytes->data(), bytes->size()};
    const int status = co_await io_write(port, *file_, 0, std::span(&vector, 1), bytes->size());
    if (status == 0) {
        header_ = header;
    }
    co_return status;
}

void Store::mark_corrupt(std::string why) {
    if (!corrupt_.exchange(true)) {
        (void)failed(-EIO, why + "; the image is marked corrupt and not written to any more");
        corruption_unsaved_ = true;
    }
}

}  // namespace kumoi::hypervisor::qcow2
