// Writing compressed clusters, packed one after the other. Offline: nothing else may run.
#include <cerrno>

#include "hypervisor/block/qcow2/compression.h"
#include "hypervisor/block/qcow2/store.h"

namespace kumoi::hypervisor::qcow2 {

Task<int> Store::write_compressed(IoPort& port, uint64_t offset,
                                  std::span<const std::byte> cluster) {
    const std::vector<std::byte> packed = compress(compression_, cluster);
    if (packed.empty()) {
        const iovec vector{const_cast<std::byte*>(cluster.data()), cluster.size()};
        const uint64_t size = std::min<uint64_t>(cluster.size(), this->size() - offset);
        co_return co_await write(port, offset, std::span(&vector, 1), size);
    }
    int status = co_await relieve(port);
    if (status < 0) {
        co_return status;
    }
    const uint64_t index = offset >> cluster_bits_;
    uint64_t entry = 0;
    {
        auto meta = co_await meta_.lock(port);
        status = co_await ensure_table(port, index / l2_entries_);
        if (status == 0) {
            status = co_await place_compressed(port, packed.size(), entry);
        }
    }
    if (status < 0) {
        co_return failed(status, refcounts_.error());
    }
    const uint64_t host = compressed_range(entry, cluster_bits_).offset;
    const iovec vector{const_cast<std::byte*>(packed.data()), packed.size()};
    status = co_await io_write(port, *file_, host, std::span(&vector, 1), packed.size());
    const uint64_t slice = index / l2_.entries_per_slice();
    if (status == 0) {
        status = co_await l2_.pin(port, slice, *this);
    }
    if (status < 0) {
        co_return status;
    }
    ordered_ = true;
    L2Cache::Entry old;
    l2_.with_slice(slice, [&](L2Cache::Slice& found) {
        const auto at = static_cast<uint32_t>(index % l2_.entries_per_slice());
        old = l2_.get(found, at);
        l2_.set(found, at, {entry, 0});
    });
    l2_.unpin(slice);
    changed_ = true;
    free_entry(old);
    co_return 0;
}

// With meta_ held. Behind the last one where there is room, else in a new cluster, which continues
// the last one if it is next to it.
Task<int> Store::place_compressed(IoPort& port, uint64_t size, uint64_t& entry) {
    const uint64_t inside = compressed_at_ & (cluster_size_ - 1);
    const uint64_t room = inside == 0 ? 0 : cluster_size_ - inside;
    uint64_t at = compressed_at_;
    ClusterRun run;
    if (room < size) {
        int status = co_await refcounts_.allocate(port, 1, run);
        if (status == 0) {
            status = co_await extend_file(port);
        }
        if (status < 0) {
            co_return status;
        }
        at = room > 0 && run.first << cluster_bits_ == compressed_at_ + room
                 ? compressed_at_
                 : run.first << cluster_bits_;
    }
    if (at >> cluster_bits_ != run.first || run.count == 0) {  // a share of an older cluster
        const int status = co_await refcounts_.add(port, at >> cluster_bits_, 1);
        if (status == -EOVERFLOW) {  // as many shares as its refcount can hold
            compressed_at_ = run.count == 0 ? 0 : run.first << cluster_bits_;
            if (run.count == 0) {
                co_return co_await place_compressed(port, size, entry);
            }
            at = compressed_at_;
        } else if (status < 0) {
            co_return status;
        }
    }
    entry = compressed_entry(at, size, cluster_bits_);
    compressed_at_ = at + size;
    co_return entry == 0 ? -EFBIG : 0;
}

}  // namespace kumoi::hypervisor::qcow2
