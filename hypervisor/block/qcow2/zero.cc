// Write-zeroes and discard: by changing entries where whole clusters (or subclusters) are meant.
#include <algorithm>
#include <cerrno>
#include <vector>

#include "hypervisor/block/qcow2/buffer.h"
#include "hypervisor/block/qcow2/operation.h"
#include "hypervisor/block/qcow2/store.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr uint64_t kZeroesMax = 1u << 20;  // bytes written at once where entries cannot say it
constexpr uint64_t kAllZero = 0xffffffff00000000ull;  // subclusters

}  // namespace

Task<int> Store::zero(IoPort& port, uint64_t offset, uint64_t size, bool may_unmap) {
    if (!options_.writable || corrupt_) {
        co_return options_.writable ? -EIO : -EROFS;
    }
    if (WriteObserver* observer = observer_.load(std::memory_order_acquire)) {
        observer->range_changes(offset, size);
    }
    const Operation operation(*this);
    const uint64_t end = offset + size;
    const uint64_t first = (offset + cluster_size_ - 1) >> cluster_bits_;
    // The disk's last cluster counts as whole when the range reaches the disk's end.
    const uint64_t last = (end == this->size() ? end + cluster_size_ - 1 : end) >> cluster_bits_;
    if (first > last) {  // inside one cluster
        co_return co_await zero_part(port, offset, size);
    }
    int status = 0;
    if (const uint64_t inner = first << cluster_bits_; inner > offset) {
        status = co_await zero_part(port, offset, inner - offset);
    }
    if (const uint64_t inner = last << cluster_bits_; status == 0 && inner < end) {
        status = co_await zero_part(port, inner, end - inner);
    }
    // One slice at a time.
    for (uint64_t at = first; at < last && status == 0;) {
        const uint32_t per_slice = l2_.entries_per_slice();
        const uint64_t stop = std::min((at / per_slice + 1) * per_slice, last);
        status = co_await zero_clusters(port, at, stop - 1, may_unmap);
        at = stop;
    }
    co_return status;
}

// A discard may leave anything: it is done where it frees whole clusters and cannot show what is in
// the backing file.
Task<int> Store::discard(IoPort& port, uint64_t offset, uint64_t size) {
    const uint64_t end = offset + size;
    const uint64_t first = (offset + cluster_size_ - 1) >> cluster_bits_ << cluster_bits_;
    const uint64_t last = end == this->size() ? end : end >> cluster_bits_ << cluster_bits_;
    if (!options_.writable || corrupt_) {
        co_return options_.writable ? -EIO : -EROFS;
    }
    if (first >= last || (version_ < 3 && backing_)) {
        co_return 0;
    }
    co_return co_await zero(port, first, last - first, true);
}

// Part of one cluster.
Task<int> Store::zero_part(IoPort& port, uint64_t offset, uint64_t size) {
    const uint64_t unit = cluster_size_ / kSubclusters;
    if (extended_) {
        const uint64_t end = offset + size;
        const uint64_t first = (offset + unit - 1) / unit * unit;
        const uint64_t last = end / unit * unit;
        if (first < last) {
            int status = co_await zero_subclusters(port, first, last - first);
            if (status == 0 && first > offset) {
                status = co_await zero_by_writing(port, offset, first - offset);
            }
            if (status == 0 && last < end) {
                status = co_await zero_by_writing(port, last, end - last);
            }
            co_return status;
        }
    }
    co_return co_await zero_by_writing(port, offset, size);
}

Task<int> Store::zero_by_writing(IoPort& port, uint64_t offset, uint64_t size) {
    AlignedBuffer zeros;
    const uint64_t piece = std::min(size, kZeroesMax);
    if (!zeros.allocate(piece)) {
        co_return -ENOMEM;
    }
    std::memset(zeros.data(), 0, piece);
    for (uint64_t done = 0; done < size;) {
        Extent extent;
        if (!lookup(offset + done, size - done, extent)) {
            const int status = co_await load_slice(port, offset + done);
            if (status < 0) {
                co_return status;
            }
            continue;
        }
        uint64_t part = std::min(extent.size, piece);
        if (extent.kind == ExtentKind::Zero ||
            (extent.kind == ExtentKind::Unallocated && reads_zero_behind(offset + done))) {
            done += extent.size;
            continue;
        }
        const iovec vector{zeros.data(), part};
        const int status = co_await write(port, offset + done, std::span(&vector, 1), part);
        if (status < 0) {
            co_return status;
        }
        done += part;
    }
    co_return 0;
}

// Whole guest clusters [first, last] inside one slice.
Task<int> Store::zero_clusters(IoPort& port, uint64_t first, uint64_t last, bool may_unmap) {
    if (version_ < 3 && !reads_zero_behind(first << cluster_bits_)) {
        const uint64_t end = std::min((last + 1) << cluster_bits_, size());
        co_return co_await zero_by_writing(port, first << cluster_bits_,
                                           end - (first << cluster_bits_));
    }
    int status = co_await relieve(port);
    if (status < 0) {
        co_return status;
    }
    auto range = co_await ranges_.lock(port, first, last);
    const uint64_t l1_index = first / l2_entries_;
    {
        auto meta = co_await meta_.lock(port);
        const bool absent = (l1_.load()[l1_index] & kOffsetMask) == 0;
        if (absent && reads_zero_behind(first << cluster_bits_)) {
            co_return 0;
        }
        status = co_await ensure_table(port, l1_index);
        if (status < 0) {
            co_return status;
        }
    }
    const uint32_t per_slice = l2_.entries_per_slice();
    const uint64_t slice_index = first / per_slice;
    status = co_await l2_.pin(port, slice_index, *this);
    if (status < 0) {
        co_return status;
    }
    std::vector<L2Cache::Entry> freed;
    bool changed = false;
    l2_.with_slice(slice_index, [&](L2Cache::Slice& slice) {
        for (uint64_t cluster = first; cluster <= last; ++cluster) {
            const auto index = static_cast<uint32_t>(cluster % per_slice);
            L2Cache::Entry entry = l2_.get(slice, index);
            if (zero_entry(entry, cluster, may_unmap, freed)) {
                l2_.set(slice, index, entry);
                changed = true;
            }
        }
    });
    l2_.unpin(slice_index);
    for (const L2Cache::Entry& entry : freed) {
        free_entry(entry);
    }
    if (changed) {
        changed_ = true;
    }
    co_return 0;
}

Task<int> Store::forget_all(IoPort& port) {
    const uint32_t per_slice = l2_.entries_per_slice();
    const uint64_t clusters = header_.cluster_count();
    for (uint64_t first = 0; first < clusters; first += per_slice) {
        const uint64_t l1_index = first / l2_entries_;
        if ((l1_.load()[l1_index] & kOffsetMask) == 0) {
            continue;
        }
        int status = co_await relieve(port);
        if (status == 0) {
            auto meta = co_await meta_.lock(port);
            status = co_await ensure_table(port, l1_index);
        }
        if (status == 0) {
            status = co_await l2_.pin(port, first / per_slice, *this);
        }
        if (status < 0) {
            co_return status;
        }
        std::vector<L2Cache::Entry> freed;
        l2_.with_slice(first / per_slice, [&](L2Cache::Slice& slice) {
            for (uint32_t i = 0; i < per_slice; ++i) {
                freed.push_back(l2_.get(slice, i));
                l2_.set(slice, i, {});
            }
        });
        l2_.unpin(first / per_slice);
        changed_ = true;
        for (const L2Cache::Entry& entry : freed) {
            if (classify(entry, 0).kind != ExtentKind::Bad) {
                free_entry(entry);
            }
        }
    }
    co_return 0;
}

// True when the entry changed. A damaged entry is replaced, and what it pointed to left alone.
bool Store::zero_entry(L2Cache::Entry& entry, uint64_t cluster, bool may_unmap,
                       std::vector<L2Cache::Entry>& freed) const {
    const L2Cache::Entry old = entry;
    const uint64_t host = old.descriptor & kOffsetMask;
    const bool compressed = (old.descriptor & kEntryCompressed) != 0;
    const bool bad = classify(old, 0).kind == ExtentKind::Bad;
    const bool nothing_behind = reads_zero_behind(cluster << cluster_bits_);
    const bool keep = !bad && !compressed && host != 0 && !may_unmap && version_ >= 3 &&
                      (old.descriptor & kEntryCopied) != 0;
    if (keep) {
        entry = extended_ ? L2Cache::Entry{old.descriptor, kAllZero}
                          : L2Cache::Entry{old.descriptor | kEntryZero, 0};
    } else if (nothing_behind) {
        entry = {};
    } else {
        entry = extended_ ? L2Cache::Entry{0, kAllZero} : L2Cache::Entry{kEntryZero, 0};
    }
    if (entry.descriptor == old.descriptor && entry.subclusters == old.subclusters) {
        return false;
    }
    if (!keep && !bad && (compressed || host != 0)) {
        freed.push_back(old);
    }
    return true;
}

// Whole subclusters inside one cluster (extended L2).
Task<int> Store::zero_subclusters(IoPort& port, uint64_t offset, uint64_t size) {
    const uint64_t cluster = offset >> cluster_bits_;
    const uint64_t unit = cluster_size_ / kSubclusters;
    const auto first = static_cast<uint32_t>((offset & (cluster_size_ - 1)) / unit);
    const auto count = static_cast<uint32_t>(size / unit);
    const uint64_t bits = ((1ull << count) - 1) << first;
    auto range = co_await ranges_.lock(port, cluster, cluster);
    {
        auto meta = co_await meta_.lock(port);
        const int status = co_await ensure_table(port, cluster / l2_entries_);
        if (status < 0) {
            co_return status;
        }
    }
    const uint64_t slice_index = cluster / l2_.entries_per_slice();
    int status = co_await l2_.pin(port, slice_index, *this);
    if (status < 0) {
        co_return status;
    }
    bool by_writing = false;
    l2_.with_slice(slice_index, [&](L2Cache::Slice& slice) {
        const auto index = static_cast<uint32_t>(cluster % l2_.entries_per_slice());
        L2Cache::Entry entry = l2_.get(slice, index);
        by_writing = (entry.descriptor & kEntryCompressed) != 0 ||
                     classify(entry, first).kind == ExtentKind::Bad;
        if (!by_writing) {
            entry.subclusters = (entry.subclusters & ~bits) | bits << 32;
            l2_.set(slice, index, entry);
        }
    });
    l2_.unpin(slice_index);
    changed_ = true;
    range.release();
    if (by_writing) {
        status = co_await zero_by_writing(port, offset, size);
    }
    co_return status;
}

}  // namespace kumoi::hypervisor::qcow2
