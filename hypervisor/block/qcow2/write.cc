// Writing: in place where the cluster is ours alone, else into newly allocated clusters.
#include <algorithm>
#include <cerrno>

#include "hypervisor/block/qcow2/allocation.h"
#include "hypervisor/block/qcow2/operation.h"
#include "hypervisor/block/qcow2/store.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr uint64_t kFreedMax = 1u << 16;  // then a commit, so that the list stays small

}  // namespace

Task<int> Store::write(IoPort& port, uint64_t offset, std::span<const iovec> vectors,
                       uint64_t size) {
    if (!options_.writable || corrupt_) {
        co_return options_.writable ? -EIO : -EROFS;
    }
    if (WriteObserver* observer = observer_.load(std::memory_order_acquire)) {
        observer->range_changes(offset, size);
    }
    const Operation operation(*this);
    std::vector<std::unique_ptr<IoCall>> calls;
    std::vector<std::vector<iovec>> parts;
    uint64_t done = 0;
    int status = 0;
    while (done < size && status == 0) {
        Extent extent;
        if (!lookup(offset + done, size - done, extent)) {
            status = co_await load_slice(port, offset + done);
            continue;
        }
        if (!extent.in_place) {
            uint64_t written = 0;
            status =
                co_await write_allocating(port, offset + done, size - done, vectors, done, written);
            done += written;
            continue;
        }
        if (hits_metadata(extent.host, extent.size)) {
            status = overwrites_metadata(extent.host, extent.size);
            continue;
        }
        if (extent.size == size) {
            co_return co_await io_write(port, *file_, extent.host, vectors, size, true);
        }
        std::vector<iovec>& part = parts.emplace_back();
        cut_vectors(vectors, done, extent.size, part);
        auto& call = calls.emplace_back(std::make_unique<IoCall>());
        call->kind = IoCall::Kind::Write;
        call->file = file_.get();
        call->offset = extent.host;
        call->size = extent.size;
        call->vectors = part;
        call->data = true;
        done += extent.size;
    }
    const int write_status = co_await IoAll{port, calls, {}};
    co_return status < 0 ? status : write_status;
}

// `skip`: where the data begins in `vectors`. `done`: bytes written; 0 without an error: again.
Task<int> Store::write_allocating(IoPort& port, uint64_t offset, uint64_t size,
                                  std::span<const iovec> vectors, uint64_t skip, uint64_t& done) {
    int status = co_await relieve(port);
    if (status < 0) {
        co_return status;
    }
    Allocation allocation(offset, size, cluster_bits_, l2_.entries_per_slice());
    auto range = co_await ranges_.lock(port, allocation.first, allocation.last());
    status = co_await plan(port, allocation);
    if (status < 0 || allocation.count == 0) {
        if (status == 0) {
            l2_.unpin(allocation.slice);
        }
        co_return status;
    }
    status = co_await obtain_clusters(port, allocation);
    if (status < 0) {
        l2_.unpin(allocation.slice);
        co_return status;
    }
    std::vector<iovec> data;
    const uint64_t host_base = allocation.run.first << cluster_bits_;
    const uint64_t guest_base = allocation.first << cluster_bits_;
    if (allocation.run.zero && allocation.behind_zero) {
        link(allocation);
        range.release();
        cut_vectors(vectors, skip, allocation.size, data);
        done = allocation.size;
        co_return co_await io_write(port, *file_, host_base + (offset - guest_base), data,
                                    allocation.size, true);
    }
    status = co_await read_around(port, allocation);
    if (status == 0) {
        const bool bare = allocation.run.zero && allocation.around_zero;
        const uint64_t head = bare ? 0 : offset - allocation.start;
        const uint64_t tail = bare ? 0 : allocation.end - offset - allocation.size;
        if (head > 0) {
            data.push_back({allocation.around.data(), head});
        }
        cut_vectors(vectors, skip, allocation.size, data);
        if (tail > 0) {
            data.push_back({allocation.around.data() + (offset - allocation.start), tail});
        }
        status = co_await io_write(port, *file_, host_base + (offset - head - guest_base), data,
                                   head + allocation.size + tail, true);
    }
    if (status < 0) {
        (void)co_await undo(port, allocation);
        co_return status;
    }
    ordered_ = true;
    link(allocation);
    done = allocation.size;
    co_return 0;
}

// Cuts the run down to clusters that are alike, and finds what around the data must be kept.
// Pins the slice. A count of 0: nothing to allocate any more.
Task<int> Store::plan(IoPort& port, Allocation& allocation) {
    using Old = Allocation::Old;
    {
        auto meta = co_await meta_.lock(port);
        const int status = co_await ensure_table(port, allocation.first / l2_entries_);
        if (status < 0) {
            co_return status;
        }
    }
    const int status = co_await l2_.pin(port, allocation.slice, *this);
    if (status < 0) {
        co_return status;
    }
    Extent extent;
    if (lookup(allocation.offset, allocation.size, extent) && extent.in_place) {
        allocation.count = 0;
        co_return 0;
    }
    uint64_t count = 0;
    bool bad = extent.kind == ExtentKind::Bad;
    l2_.with_slice(allocation.slice, [&](const L2Cache::Slice& slice) {
        for (; count < allocation.count; ++count) {
            const auto index =
                static_cast<uint32_t>((allocation.first + count) % l2_.entries_per_slice());
            const L2Cache::Entry entry = l2_.get(slice, index);
            const uint64_t host = entry.descriptor & kOffsetMask;
            const bool compressed = (entry.descriptor & kEntryCompressed) != 0;
            const bool copied = (entry.descriptor & kEntryCopied) != 0;
            const Old old = compressed || (host != 0 && !copied) ? Old::Shared
                            : host != 0                          ? Old::Owned
                                                                 : Old::Empty;
            if (count == 0) {
                allocation.old = old;
            } else if (old != allocation.old || old == Old::Owned) {
                break;
            }
            if (classify(entry, 0).kind == ExtentKind::Bad) {
                bad = count == 0;
                break;
            }
            allocation.entries.push_back(entry);
        }
    });
    if (bad) {
        l2_.unpin(allocation.slice);
        co_return bad_entry(allocation.offset, extent);
    }
    allocation.count = count;
    if (extended_ && allocation.old == Old::Owned) {  // only as far as nothing valid is there
        allocation.size = std::min(allocation.size, extent.size);
    }
    co_return 0;
}

Task<int> Store::obtain_clusters(IoPort& port, Allocation& allocation) {
    using Old = Allocation::Old;
    if (allocation.old == Old::Owned) {
        allocation.run = {(allocation.entries[0].descriptor & kOffsetMask) >> cluster_bits_, 1,
                          false};
        const uint64_t host = allocation.run.first << cluster_bits_;
        if (hits_metadata(host, cluster_size_)) {
            co_return overwrites_metadata(host, cluster_size_);
        }
    } else {
        auto meta = co_await meta_.lock(port);
        int status = co_await refcounts_.allocate(port, allocation.count, allocation.run);
        if (status < 0) {
            co_return failed(status, refcounts_.error());
        }
        changed_ = true;
        status = co_await extend_file(port);
        for (uint64_t i = 0; status < 0 && i < allocation.run.count; ++i) {
            const int undone = co_await refcounts_.add(port, allocation.run.first + i, -1);
            if (undone == 0) {
                refcounts_.give_back({allocation.run.first + i, 1, false});
            }
        }
        if (status < 0) {
            co_return status;
        }
    }
    allocation.count = allocation.run.count;
    allocation.entries.resize(allocation.count);
    const uint64_t guest_end = (allocation.first + allocation.count) << cluster_bits_;
    allocation.size = std::min(allocation.size, guest_end - allocation.offset);
    const uint64_t unit =
        extended_ && allocation.old != Old::Shared ? cluster_size_ / kSubclusters : cluster_size_;
    allocation.start = allocation.offset / unit * unit;
    const uint64_t data_end = allocation.offset + allocation.size;
    allocation.end = (data_end + unit - 1) / unit * unit;
    allocation.behind_zero = allocation.old == Old::Empty && replaces_zeros(allocation);
    co_return 0;
}

// Everything from start to end reads as zeros, which is known without reading.
bool Store::replaces_zeros(const Allocation& allocation) const {
    const uint64_t unit = extended_ ? cluster_size_ / kSubclusters : cluster_size_;
    for (uint64_t at = allocation.start; at < allocation.end; at += unit) {
        const L2Cache::Entry& entry = allocation.entries[(at >> cluster_bits_) - allocation.first];
        const auto subcluster = static_cast<uint32_t>((at & (cluster_size_ - 1)) / unit);
        const ExtentKind kind = classify(entry, subcluster).kind;
        if (kind != ExtentKind::Zero &&
            (kind != ExtentKind::Unallocated || !reads_zero_behind(at))) {
            return false;
        }
    }
    return true;
}

Task<int> Store::preallocate(IoPort& port) {
    if (backing_) {
        co_return failed(-EOPNOTSUPP, "preallocation would hide the backing file");
    }
    for (uint64_t at = 0; at < size();) {
        const uint64_t disk_end = header_.cluster_count() << cluster_bits_;
        Allocation allocation(at, disk_end - at, cluster_bits_, l2_.entries_per_slice());
        allocation.size = allocation.count << cluster_bits_;
        int status = co_await relieve(port);
        if (status == 0) {
            status = co_await plan(port, allocation);
        }
        if (status < 0) {
            co_return status;
        }
        if (allocation.count == 0) {
            l2_.unpin(allocation.slice);
            at += cluster_size_;
            continue;
        }
        status = co_await obtain_clusters(port, allocation);
        if (status < 0 || !allocation.run.zero || !allocation.behind_zero) {
            l2_.unpin(allocation.slice);
            co_return status < 0 ? status : -EOPNOTSUPP;
        }
        link(allocation);
        at += allocation.size;
    }
    co_return 0;
}

Task<int> Store::read_around(IoPort& port, Allocation& allocation) {
    const uint64_t head = allocation.offset - allocation.start;
    const uint64_t data_end = allocation.offset + allocation.size;
    const uint64_t tail = allocation.end - data_end;
    if (head + tail == 0) {
        allocation.around_zero = true;
        co_return 0;
    }
    if (!allocation.around.allocate(head + tail)) {
        co_return -ENOMEM;
    }
    int status = 0;
    if (head > 0) {
        const iovec vector{allocation.around.data(), head};
        status = co_await read(port, allocation.start, std::span(&vector, 1), head);
    }
    if (status == 0 && tail > 0) {
        const iovec vector{allocation.around.data() + head, tail};
        status = co_await read(port, data_end, std::span(&vector, 1), tail);
    }
    allocation.around_zero = allocation.around.all_zero();
    co_return status;
}

// Points the guest clusters to their new place; gives up what they referred to.
void Store::link(const Allocation& allocation) {
    const uint64_t data_end = allocation.offset + allocation.size;
    const uint64_t subcluster_size = cluster_size_ / kSubclusters;
    l2_.with_slice(allocation.slice, [&](L2Cache::Slice& slice) {
        for (uint64_t i = 0; i < allocation.count; ++i) {
            const uint64_t guest = (allocation.first + i) << cluster_bits_;
            L2Cache::Entry entry = allocation.entries[i];
            entry.descriptor = (allocation.run.first + i) << cluster_bits_ | kEntryCopied;
            if (extended_ && allocation.old == Allocation::Old::Shared) {
                entry.subclusters = 0xffffffff;
            } else if (extended_) {
                for (uint32_t sub = 0; sub < kSubclusters; ++sub) {
                    const uint64_t at = guest + sub * subcluster_size;
                    const bool written = at < data_end && at + subcluster_size > allocation.offset;
                    const bool hole_is_right =
                        allocation.run.zero && allocation.behind_zero &&
                        classify(allocation.entries[i], sub).kind == ExtentKind::Unallocated &&
                        reads_zero_behind(at);
                    if (written || hole_is_right) {
                        entry.subclusters |= 1ull << sub;
                        entry.subclusters &= ~(1ull << (32 + sub));
                    }
                }
            }
            const auto index =
                static_cast<uint32_t>((allocation.first + i) % l2_.entries_per_slice());
            l2_.set(slice, index, entry);
        }
    });
    changed_ = true;
    l2_.unpin(allocation.slice);
    if (allocation.old == Allocation::Old::Shared) {
        for (const L2Cache::Entry& entry : allocation.entries) {
            free_entry(entry);
        }
    }
}

// Nothing refers to the new clusters yet, so they are free at once.
Task<int> Store::undo(IoPort& port, const Allocation& allocation) {
    l2_.unpin(allocation.slice);
    if (allocation.old == Allocation::Old::Owned) {
        co_return 0;
    }
    auto meta = co_await meta_.lock(port);
    for (uint64_t i = 0; i < allocation.run.count; ++i) {
        const int status = co_await refcounts_.add(port, allocation.run.first + i, -1);
        if (status < 0) {
            co_return status;
        }
    }
    refcounts_.give_back({allocation.run.first, allocation.run.count, false});
    co_return 0;
}

// What an entry referred to loses one reference, once the change is on disk.
void Store::free_entry(const L2Cache::Entry& entry) {
    if ((entry.descriptor & kEntryCompressed) != 0) {
        const CompressedRange range = compressed_range(entry.descriptor, cluster_bits_);
        const uint64_t first = range.offset >> cluster_bits_;
        const uint64_t last = (range.offset + range.size - 1) >> cluster_bits_;
        free_later(first, last - first + 1);
        const std::lock_guard lock(decompressed_mutex_);
        decompressed_.clear();
        return;
    }
    if (const uint64_t host = entry.descriptor & kOffsetMask; host != 0) {
        free_later(host >> cluster_bits_, 1);
    }
}

void Store::free_later(uint64_t first_cluster, uint64_t count) {
    const std::lock_guard lock(lists_);
    if (!freed_.empty() && freed_.back().first + freed_.back().count == first_cluster) {
        freed_.back().count += count;
    } else {
        freed_.push_back({first_cluster, count, false});
    }
    freed_count_ = freed_.size();
    changed_ = true;
}

// Before more is allocated: too many changes in memory are written out.
Task<int> Store::relieve(IoPort& port) {
    if (l2_.over_dirty_limit() || freed_count_ > kFreedMax) {
        co_return co_await flush(port);
    }
    co_return 0;
}

// With meta_ held: the file reaches to the end of what is allocated, plus some room ahead.
Task<int> Store::extend_file(IoPort& port) {
    const uint64_t needed = refcounts_.end() << cluster_bits_;
    if (needed <= file_->size) {
        co_return 0;
    }
    if (!file_->holes_are_zero) {
        co_return -ENOSPC;  // a block device
    }
    const uint64_t step = std::max(options_.extend_bytes, cluster_size_);
    const uint64_t target = (needed + step - 1) / step * step;
    int status = co_await io_truncate(port, *file_, target);
    if (status == 0) {
        file_->size = target;
        ordered_ = true;
    }
    co_return status;
}

Task<int> Store::allocate_metadata(IoPort& port, uint64_t count, ClusterRun& run) {
    auto meta = co_await meta_.lock(port);
    int status = co_await refcounts_.allocate_tail(port, count, run);
    if (status == 0) {
        status = co_await extend_file(port);
    }
    for (uint64_t i = 0; status == 0 && i < count; ++i) {
        metadata_.add(run.first + i);
    }
    changed_ = true;
    co_return status < 0 ? failed(status, refcounts_.error()) : 0;
}

// With meta_ held: the table of this L1 entry exists and is ours alone.
Task<int> Store::ensure_table(IoPort& port, uint64_t l1_index) {
    std::atomic<uint64_t>& entry = l1_.load()[l1_index];
    const uint64_t old = entry.load();
    if ((old & kEntryCopied) != 0) {
        co_return 0;
    }
    ClusterRun run;
    int status = co_await refcounts_.allocate(port, 1, run);
    if (status == 0) {
        status = co_await extend_file(port);
    }
    if (status < 0) {
        co_return failed(status, refcounts_.error());
    }
    const uint64_t offset = run.first << cluster_bits_;
    const bool copies = (old & kOffsetMask) != 0;
    if (copies || !run.zero) {
        status = co_await copy_table(port, l1_index, offset);
        if (status < 0) {
            co_return status;
        }
    }
    metadata_.add(run.first);
    {
        const std::lock_guard lock(lists_);
        l1_dirty_.insert(l1_index);
        new_tables_.insert(l1_index);
    }
    entry.store(offset | kEntryCopied, std::memory_order_release);
    changed_ = true;
    if (copies) {
        free_later((old & kOffsetMask) >> cluster_bits_, 1);
    }
    co_return 0;
}

// The table as it is now, or an empty one, written to `offset`.
Task<int> Store::copy_table(IoPort& port, uint64_t l1_index, uint64_t offset) {
    const uint64_t old = l1_.load()[l1_index] & kOffsetMask;
    const uint32_t slice_words = l2_.slice_bytes() / 8;
    const uint64_t slices = cluster_size_ / l2_.slice_bytes();
    std::vector<uint64_t> table(cluster_size_ / 8);
    for (uint64_t i = 0; old != 0 && i < slices; ++i) {
        std::vector<uint64_t> words(slice_words);
        const int status = co_await read_slice(port, l1_index * slices + i, words);
        if (status < 0) {
            co_return status;
        }
        l2_.overlay_dirty(l1_index * slices + i, words);
        std::transform(words.begin(), words.end(),
                       table.begin() + static_cast<std::ptrdiff_t>(i * slice_words), to_be64);
    }
    const iovec vector{table.data(), cluster_size_};
    co_return co_await io_write(port, *file_, offset, std::span(&vector, 1), cluster_size_);
}

}  // namespace kumoi::hypervisor::qcow2
