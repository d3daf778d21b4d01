// Pulling: what shows through from the backing file is copied into the image, so that in the end
// the backing file is not needed. Beside requests: the clusters' range is locked as for a write.
#include <algorithm>
#include <cerrno>

#include "hypervisor/block/qcow2/allocation.h"
#include "hypervisor/block/qcow2/operation.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr uint64_t kPullMax = 1u << 20;  // bytes at once

}  // namespace

Task<int> Store::pull(IoPort& port, uint64_t offset, uint64_t size, uint64_t& done) {
    done = 0;
    if (!options_.writable || corrupt_) {
        co_return options_.writable ? -EIO : -EROFS;
    }
    const Operation operation(*this);
    Extent extent;
    if (!lookup(offset, std::min(size, kPullMax), extent)) {
        co_return co_await load_slice(port, offset);
    }
    if (extent.kind == ExtentKind::Bad) {
        co_return bad_entry(offset, extent);
    }
    uint64_t part = extent.size;
    bool zero = extent.kind != ExtentKind::Unallocated;
    int status = zero ? 0 : co_await is_zero_behind(port, offset, part, zero);
    if (status < 0 || zero) {
        done = part;
        co_return status;
    }
    status = co_await relieve(port);
    if (status < 0) {
        co_return status;
    }
    Allocation allocation(offset, part, cluster_bits_, l2_.entries_per_slice());
    auto range = co_await ranges_.lock(port, allocation.first, allocation.last());
    status = co_await plan(port, allocation);
    if (status < 0) {
        co_return status;
    }
    if (allocation.count > 0) {
        status = co_await obtain_clusters(port, allocation);
    }
    if (status < 0 || allocation.count == 0) {
        l2_.unpin(allocation.slice);
        co_return status;
    }
    // With the range locked nobody else maps these clusters, so this is what is in them.
    const uint64_t bytes = allocation.end - allocation.start;
    if (!allocation.around.allocate(bytes)) {
        (void)co_await undo(port, allocation);
        co_return -ENOMEM;
    }
    const iovec vector{allocation.around.data(), bytes};
    status = co_await read(port, allocation.start, std::span(&vector, 1), bytes);
    if (status == 0) {
        const uint64_t host = (allocation.run.first << cluster_bits_) +
                              (allocation.start - (allocation.first << cluster_bits_));
        status = co_await io_write(port, *file_, host, std::span(&vector, 1), bytes, true);
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

// Shortens `size` to what is of one kind behind `offset`.
Task<int> Store::is_zero_behind(IoPort& port, uint64_t offset, uint64_t& size, bool& zero) {
    BlockSource* image = backing_.get();
    zero = true;
    while (image != nullptr && offset < image->size()) {
        MappedExtent extent;
        size = std::min(size, image->size() - offset);
        const int status = co_await image->map(port, offset, size, extent);
        if (status < 0) {
            co_return status;
        }
        size = extent.size;
        zero = extent.kind == ExtentKind::Zero;
        if (extent.kind != ExtentKind::Unallocated) {
            co_return 0;
        }
        zero = true;
        image = image->backing();
    }
    co_return 0;
}

}  // namespace kumoi::hypervisor::qcow2
