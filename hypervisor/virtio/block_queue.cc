#include "hypervisor/virtio/block_queue.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "hypervisor/virtio/block.h"
#include "hypervisor/virtio/block_wire.h"

namespace kumoi::hypervisor {

using namespace virtio_block;

BlockQueue::BlockQueue(BlockShared& shared, uint16_t index, uint16_t size)
    : shared_(shared), index_(index), size_(size), stream_(shared, *this, size) {}

Result<void> BlockQueue::start(VirtioContext& context) {
    context_ = &context;
    chains_ = std::vector<std::optional<Chain>>(size_);
    return stream_.start(context.queue_loop(index_), context.clock());
}

void BlockQueue::stop() {
    stream_.stop();
    chains_.clear();
    context_ = nullptr;
}

// --- Taking requests ---

void BlockQueue::process(Queue& queue) {
    stream_.start_waiting();
    while (stream_.has_room()) {
        auto chain = queue.next_chain();
        if (!chain) {
            break;
        }
        handle(*chain);
    }
    stream_.kick();
}

void BlockQueue::handle(Chain& chain) {
    Header header{};
    const auto bytes = std::as_writable_bytes(std::span(&header, 1));
    if (chain.copy_out(0, bytes) < kHeaderSize || chain.writable_size() == 0) {
        stream_.counters().malformed.increment();  // nowhere to put a status
        Chain(std::move(chain));
        return;
    }
    switch (header.type) {
        case kTypeIn: return handle_transfer(chain, DiskOperation::Read, header.sector);
        case kTypeOut: return handle_transfer(chain, DiskOperation::Write, header.sector);
        case kTypeFlush: return accept(chain, DiskOperation::Flush, 0, 0);
        case kTypeGetId: return handle_get_id(chain);
        case kTypeDiscard: return handle_range(chain, DiskOperation::Discard);
        case kTypeWriteZeroes: return handle_range(chain, DiskOperation::WriteZeroes);
        default: return refuse(chain, kStatusUnsupported);
    }
}

void BlockQueue::handle_transfer(Chain& chain, DiskOperation operation, uint64_t sector) {
    const bool read = operation == DiskOperation::Read;
    const uint64_t size = read ? chain.writable_size() - 1 : chain.readable_size() - kHeaderSize;
    const size_t buffers = read ? chain.writable().size() : chain.readable().size();
    if (!inside_disk(sector, size) || size > VirtioBlock::kRequestBytesMax ||
        buffers > VirtioBlock::kSegmentCountMax + 1 || (!read && shared_.image.read_only())) {
        return refuse(chain, kStatusIoError);
    }
    std::vector<iovec>& vectors = stream_.scratch().vectors;
    vectors.clear();
    if (read) {
        chain.writable_vectors(0, size, vectors);
    } else {
        chain.readable_vectors(kHeaderSize, size, vectors);
    }
    accept(chain, operation, sector * kSectorSize, size);
}

void BlockQueue::handle_range(Chain& chain, DiskOperation operation) {
    const bool zeroes = operation == DiskOperation::WriteZeroes;
    if ((shared_.features & (zeroes ? kFeatureWriteZeroes : kFeatureDiscard)) == 0) {
        return refuse(chain, kStatusUnsupported);
    }
    Range range{};
    if (chain.readable_size() != kHeaderSize + sizeof(Range)) {  // max_*_seg is 1
        return refuse(chain, kStatusIoError);
    }
    chain.copy_out(kHeaderSize, std::as_writable_bytes(std::span(&range, 1)));
    const uint32_t known = zeroes ? kRangeUnmap : 0;
    if ((range.flags & ~known) != 0) {  // §5.2.6.2: unknown flags, or unmap on a discard
        return refuse(chain, kStatusUnsupported);
    }
    const uint64_t size = uint64_t{range.sector_count} * kSectorSize;
    if (range.sector_count > VirtioBlock::kRangeSectorsMax || !inside_disk(range.sector, size) ||
        shared_.image.read_only()) {
        return refuse(chain, kStatusIoError);
    }
    stream_.scratch().may_unmap = (range.flags & kRangeUnmap) != 0;
    accept(chain, operation, range.sector * kSectorSize, size);
}

void BlockQueue::handle_get_id(Chain& chain) {
    if (chain.writable_size() < kIdSize + 1) {
        return refuse(chain, kStatusIoError);
    }
    std::array<std::byte, kIdSize> id{};  // §5.2.6: padded with zeros, no terminator when full
    std::memcpy(id.data(), shared_.serial.data(), std::min(shared_.serial.size(), id.size()));
    chain.copy_in(0, id);
    finish(chain, kStatusOk);
}

void BlockQueue::refuse(Chain& chain, uint8_t status) {
    stream_.counters().errors.increment();
    finish(chain, status);
}

// The stream's scratch() has the vectors and may_unmap.
void BlockQueue::accept(Chain& chain, DiskOperation operation, uint64_t offset, uint64_t size) {
    chains_[stream_.next_token()].emplace(std::move(chain));
    stream_.accept({.operation = operation, .offset = offset, .size = size});
}

// --- Answers ---

void BlockQueue::request_done(uint32_t token, int result) {
    std::optional<Chain>& chain = chains_[token];
    KUMOI_ASSERT(chain.has_value());
    finish(*chain, result == 0 ? kStatusOk : kStatusIoError);
    chain.reset();
}

void BlockQueue::batch_done() {
    if (Queue* queue = context_->queue(index_)) {
        queue->publish();
    }
}

// Writes the status byte, the last the device may write, and returns the chain.
void BlockQueue::finish(Chain& chain, uint8_t status) {
    const uint64_t writable = chain.writable_size();
    chain.copy_in(writable - 1, std::as_bytes(std::span(&status, 1)));
    chain.add_used(static_cast<uint32_t>(writable));
    Chain(std::move(chain));
}

void BlockQueue::quiesce() {
    if (stream_.started()) {
        stream_.quiesce();
        context_->run_queue(index_);  // taking may have stopped for what waited
    }
}

bool BlockQueue::inside_disk(uint64_t sector, uint64_t size) const {
    const uint64_t capacity = shared_.image.size() / kSectorSize;
    return size > 0 && size % kSectorSize == 0 && sector < capacity &&
           size / kSectorSize <= capacity - sector;
}

}  // namespace kumoi::hypervisor
