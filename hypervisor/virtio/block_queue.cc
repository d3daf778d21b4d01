#include "hypervisor/virtio/block_queue.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "hypervisor/virtio/block.h"
#include "hypervisor/virtio/block_wire.h"

namespace kumoi::hypervisor {

using namespace virtio_block;

namespace {

// New limits are noticed this soon, whatever the old ones said.
constexpr int64_t kHoldNsMax = 100 * kNanosPerMilli;

}  // namespace

BlockQueue::BlockQueue(BlockShared& shared, uint16_t index, uint16_t size)
    : shared_(shared), index_(index), size_(size) {}

Result<void> BlockQueue::start(VirtioContext& context) {
    context_ = &context;
    disk_ = TRY(shared_.image.open_queue(context.queue_loop(index_), *this));
    requests_ = std::vector<Request>(size_ + 1u);
    free_.clear();
    for (uint32_t token = 0; token < size_; ++token) {
        free_.push_back(size_ - 1u - token);
    }
    return {};
}

void BlockQueue::stop() {
    disk_.reset();
    requests_.clear();
    context_ = nullptr;
}

// --- Taking requests ---

void BlockQueue::process(Queue& queue) {
    start_waiting();
    while (disk_full_.empty() && !free_.empty()) {
        auto chain = queue.next_chain();
        if (!chain) {
            break;
        }
        handle(*chain);
    }
    disk_->kick();
}

void BlockQueue::handle(Chain& chain) {
    Header header{};
    const auto bytes = std::as_writable_bytes(std::span(&header, 1));
    if (chain.copy_out(0, bytes) < kHeaderSize || chain.writable_size() == 0) {
        counters_.malformed.increment();  // nowhere to put a status
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
    std::vector<iovec>& vectors = scratch().vectors;
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
    scratch().may_unmap = (range.flags & kRangeUnmap) != 0;
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
    counters_.errors.increment();
    finish(chain, status);
}

// scratch() has the vectors and may_unmap; takes its token.
void BlockQueue::accept(Chain& chain, DiskOperation operation, uint64_t offset, uint64_t size) {
    const uint32_t token = free_.back();
    free_.pop_back();
    Request& request = requests_[token];
    request.chain.emplace(std::move(chain));
    request.operation = operation;
    request.size = size;
    request.durable = operation != DiskOperation::Read && operation != DiskOperation::Flush &&
                      !shared_.write_cache;
    request.disk.operation = operation;
    request.disk.offset = offset;
    request.disk.size = size;
    request.disk.token = token;
    if (operation == DiskOperation::Flush || operation == DiskOperation::Discard ||
        operation == DiskOperation::WriteZeroes) {
        request.disk.vectors.clear();
    }
    const Wait wait = wait_of(operation);
    if (shared_.throttle.limited() && wait != Wait::None) {
        // What waits already goes first.
        const int64_t wait_ns = held(wait).empty() ? ask_limits(request) : kHoldNsMax;
        if (wait_ns > 0) {
            counters_.throttled.increment();
            held(wait).push_back(token);
            return wake_after(wait_ns);
        }
    }
    submit(token);
}

// --- Limits ---

BlockQueue::Wait BlockQueue::wait_of(DiskOperation operation) {
    switch (operation) {
        case DiskOperation::Read: return Wait::Reads;
        case DiskOperation::Flush: return Wait::None;
        default: return Wait::Writes;
    }
}

// A discard moves no bytes, so it only counts as a request. Before a pause nothing may wait: its
// tokens are owed instead, so the average stays.
int64_t BlockQueue::ask_limits(const Request& request) {
    const bool read = request.operation == DiskOperation::Read;
    const auto direction = read ? DiskThrottle::Direction::Read : DiskThrottle::Direction::Write;
    const uint64_t bytes = request.operation == DiskOperation::Discard ? 0 : request.size;
    if (quiescing_) {
        shared_.throttle.charge(direction, bytes);
        return 0;
    }
    return shared_.throttle.admit(direction, bytes, context_->clock().monotonic_ns());
}

void BlockQueue::wake_after(int64_t wait_ns) {
    if (!timer_) {
        timer_ = context_->queue_loop(index_).call_after(std::min(wait_ns, kHoldNsMax), [this] {
            timer_.reset();
            context_->run_queue(index_);
        });
    }
}

void BlockQueue::start_waiting() {
    while (!disk_full_.empty() && submit_now(disk_full_.front())) {
        disk_full_.pop_front();
    }
    for (auto& waiting : held_) {
        while (!waiting.empty() && disk_full_.empty()) {
            if (const int64_t wait_ns = ask_limits(requests_[waiting.front()]); wait_ns > 0) {
                wake_after(wait_ns);
                break;
            }
            submit(waiting.front());
            waiting.pop_front();
        }
    }
}

// --- The disk ---

void BlockQueue::submit(uint32_t token) {
    if (!submit_now(token)) {
        disk_full_.push_back(token);  // a completion runs this queue again
    }
}

bool BlockQueue::submit_now(uint32_t token) {
    return disk_->submit(requests_[token].disk);
}

void BlockQueue::disk_completed(uint32_t token, int result) {
    if (token == size_) {
        flush_completed(result);
    } else if (result == 0 && requests_[token].durable) {
        written_.push_back(token);
    } else {
        answer(token, result);
    }
}

void BlockQueue::start_flush() {
    if (flush_running_ || written_.empty()) {
        return;
    }
    DiskRequest& flush = requests_[size_].disk;
    flush.operation = DiskOperation::Flush;
    flush.offset = flush.size = 0;
    flush.vectors.clear();
    flush.token = size_;
    std::swap(flushing_, written_);
    flush_running_ = true;
    if (!disk_->submit(flush)) {  // full: after the next completion
        std::swap(flushing_, written_);
        flush_running_ = false;
        return;
    }
    disk_->kick();
}

void BlockQueue::flush_completed(int result) {
    flush_running_ = false;
    for (const uint32_t token : flushing_) {
        answer(token, result);
    }
    flushing_.clear();
}

void BlockQueue::disk_batch_done() {
    start_flush();
    Queue* queue = context_->queue(index_);
    if (queue == nullptr) {
        return;
    }
    queue->publish();
    if (!disk_full_.empty() && !quiescing_) {
        context_->run_queue(index_);
    }
}

// --- Answers ---

void BlockQueue::answer(uint32_t token, int result) {
    Request& request = requests_[token];
    KUMOI_ASSERT(request.chain.has_value());
    if (result == 0) {
        count(request);
    } else {
        counters_.errors.increment();
    }
    finish(*request.chain, result == 0 ? kStatusOk : kStatusIoError);
    request.chain.reset();
    free_.push_back(token);
}

// Writes the status byte, the last the device may write, and returns the chain.
void BlockQueue::finish(Chain& chain, uint8_t status) {
    const uint64_t writable = chain.writable_size();
    chain.copy_in(writable - 1, std::as_bytes(std::span(&status, 1)));
    chain.add_used(static_cast<uint32_t>(writable));
    Chain(std::move(chain));
}

void BlockQueue::quiesce() {
    if (!disk_) {
        return;
    }
    quiescing_ = true;
    if (timer_) {
        context_->queue_loop(index_).cancel(*std::exchange(timer_, std::nullopt));
    }
    while (free_.size() < size_) {
        start_waiting();
        start_flush();
        disk_->kick();
        disk_->drain();
    }
    quiescing_ = false;
    context_->run_queue(index_);  // taking may have stopped for what waited
}

bool BlockQueue::inside_disk(uint64_t sector, uint64_t size) const {
    const uint64_t capacity = shared_.image.size() / kSectorSize;
    return size > 0 && size % kSectorSize == 0 && sector < capacity &&
           size / kSectorSize <= capacity - sector;
}

void BlockQueue::count(const Request& request) {
    switch (request.operation) {
        case DiskOperation::Read:
            counters_.reads.increment();
            counters_.read_bytes.increment(request.size);
            break;
        case DiskOperation::Write:
            counters_.writes.increment();
            counters_.write_bytes.increment(request.size);
            break;
        case DiskOperation::Flush: counters_.flushes.increment(); break;
        case DiskOperation::Discard: counters_.discards.increment(); break;
        case DiskOperation::WriteZeroes: counters_.write_zeroes.increment(); break;
    }
}

}  // namespace kumoi::hypervisor
