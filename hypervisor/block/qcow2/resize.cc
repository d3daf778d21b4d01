// Resizing: larger while requests run, smaller only through Store::zero first (offline).
#include <algorithm>
#include <cerrno>

#include "hypervisor/block/qcow2/store.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr int kAttemptsMax = 100;  // a guest that makes new L2 tables all the time

}  // namespace

Task<int> Store::resize(IoPort& port, uint64_t size) {
    if (!options_.writable || corrupt_) {
        co_return options_.writable ? -EIO : -EROFS;
    }
    const uint64_t before = this->size();
    int status = 0;
    {
        auto hold = co_await commit_lock_.lock(port);
        status = co_await resize_header(port, size);
    }
    if (status < 0) {
        co_return status;
    }
    size_ = size;
    // What lies in the backing file behind the old end does not become part of the disk.
    if (size > before && backing_ && backing_->size() > before) {
        status = co_await zero(port, before, std::min(size, backing_->size()) - before, true);
        if (status == 0) {
            status = co_await flush(port);
        }
    }
    co_return status;
}

// With commit_lock_ held.
Task<int> Store::resize_header(IoPort& port, uint64_t size) {
    Header header = header_;
    header.size = size;
    if (size > kVirtualSizeMax || header.l1_entries_needed() * 8 > kL1BytesMax) {
        co_return failed(-EFBIG,
                         fmt::format("a disk of {} bytes needs an L1 table over 32 MiB", size));
    }
    if (header.snapshot_count > 0 && version_ < 3) {
        co_return failed(-EOPNOTSUPP, "a version 2 image with snapshots cannot be resized");
    }
    int status = -EAGAIN;
    if (header.l1_entries_needed() > header_.l1_entries) {
        for (int i = 0; i < kAttemptsMax && status == -EAGAIN; ++i) {
            status = co_await grow_l1(port, size);
        }
        co_return status;
    }
    status = co_await store_header(port, header);
    if (status == 0) {
        status = co_await sync(port);
    }
    co_return status;
}

// With commit_lock_ held. -EAGAIN: tables were made meanwhile.
Task<int> Store::grow_l1(IoPort& port, uint64_t size) {
    Header header = header_;
    header.size = size;
    const uint64_t entries = std::max(header.l1_entries_needed(), l1_count_ + l1_count_ / 2);
    const uint64_t clusters = (entries * 8 + cluster_size_ - 1) >> cluster_bits_;
    ClusterRun run;
    int status = co_await allocate_metadata(port, clusters, run);
    if (status == 0) {
        status = co_await commit(port);  // refcounts before the header refers to the clusters
    }
    if (status < 0) {
        co_return status;
    }
    auto meta = co_await meta_.lock(port);
    bool unwritten = false;
    {
        const std::lock_guard lock(lists_);
        unwritten = !l1_dirty_.empty();
    }
    if (unwritten) {
        free_later(run.first, run.count);
        co_return -EAGAIN;
    }
    const uint64_t old_offset = header_.l1_offset;
    const uint64_t old_entries = l1_count_;
    auto larger = std::make_unique<std::atomic<uint64_t>[]>(entries + 1);
    std::vector<uint64_t> words(clusters * cluster_size_ / 8);
    for (uint64_t i = 0; i < l1_count_; ++i) {
        larger[i] = l1_.load()[i].load();
        words[i] = to_be64(larger[i]);
    }
    const iovec vector{words.data(), words.size() * 8};
    status = co_await io_write(port, *file_, run.first << cluster_bits_, std::span(&vector, 1),
                               vector.iov_len);
    if (status == 0) {
        status = co_await sync(port);
    }
    if (status == 0) {
        header = header_;
        header.size = size;
        header.l1_offset = run.first << cluster_bits_;
        header.l1_entries = static_cast<uint32_t>(entries);
        status = co_await store_header(port, header);
    }
    if (status == 0) {
        status = co_await sync(port);
    }
    if (status < 0) {
        co_return status;
    }
    l1_ = larger.get();
    l1_storage_.push_back(std::move(larger));
    l1_count_ = entries;
    if (old_entries > 0) {
        free_later(old_offset >> cluster_bits_,
                   (old_entries * 8 + cluster_size_ - 1) >> cluster_bits_);
    }
    co_return 0;
}

}  // namespace kumoi::hypervisor::qcow2
