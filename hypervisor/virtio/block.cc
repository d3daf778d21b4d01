#include "hypervisor/virtio/block.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"

namespace kumoi::hypervisor {

struct VirtioBlock::Header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};

struct VirtioBlock::Range {
    uint64_t sector;
    uint32_t sector_count;
    uint32_t flags;
};

namespace {

// §5.2.3: feature bits.
constexpr uint64_t kFeatureSizeMax = 1ull << 1;
constexpr uint64_t kFeatureSegMax = 1ull << 2;
constexpr uint64_t kFeatureReadOnly = 1ull << 5;
constexpr uint64_t kFeatureBlockSize = 1ull << 6;
constexpr uint64_t kFeatureFlush = 1ull << 9;
constexpr uint64_t kFeatureTopology = 1ull << 10;
constexpr uint64_t kFeatureDiscard = 1ull << 13;
constexpr uint64_t kFeatureWriteZeroes = 1ull << 14;

// §5.2.6: request types and answers.
constexpr uint32_t kTypeIn = 0;
constexpr uint32_t kTypeOut = 1;
constexpr uint32_t kTypeFlush = 4;
constexpr uint32_t kTypeGetId = 8;
constexpr uint32_t kTypeDiscard = 11;
constexpr uint32_t kTypeWriteZeroes = 13;
constexpr uint8_t kStatusOk = 0;
constexpr uint8_t kStatusIoError = 1;
constexpr uint8_t kStatusUnsupported = 2;
constexpr uint32_t kRangeUnmap = 1;

constexpr size_t kHeaderSize = 16;
constexpr size_t kIdSize = 20;

// §5.2.4: struct virtio_blk_config.
struct [[gnu::packed]] Config {
    uint64_t capacity;
    uint32_t size_max;
    uint32_t seg_max;
    uint8_t geometry[4];
    uint32_t blk_size;
    uint8_t physical_block_exp;
    uint8_t alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback;
    uint8_t unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors;
    uint32_t max_discard_seg;
    uint32_t discard_sector_alignment;
    uint32_t max_write_zeroes_sectors;
    uint32_t max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused1[3];
};
static_assert(sizeof(Config) == 60);

}  // namespace

VirtioBlock::VirtioBlock(std::string name, std::unique_ptr<DiskImage> image, std::string serial,
                         uint16_t queue_size)
    : name_(std::move(name)),
      serial_(std::move(serial)),
      queue_size_(queue_size),
      image_(std::move(image)) {}

VirtioBlock::~VirtioBlock() = default;

uint64_t VirtioBlock::features() const {
    uint64_t bits = kFeatureSizeMax | kFeatureSegMax | kFeatureBlockSize | kFeatureTopology;
    bits |= image_->read_only() ? kFeatureReadOnly : 0;
    bits |= image_->write_cache() ? kFeatureFlush : 0;
    bits |= image_->can_discard() ? kFeatureDiscard | kFeatureWriteZeroes : 0;
    return bits;
}

uint32_t VirtioBlock::segment_count_max() const {
    // Header and status take a descriptor each.
    return std::min<uint32_t>(kSegmentCountMax, std::max(queue_size_ - 2, 1));
}

void VirtioBlock::read_config(uint32_t offset, std::span<uint8_t> out) const {
    const uint32_t block_size = image_->block_size();
    Config config{};
    config.capacity = image_->size() / kSectorSize;
    config.size_max = kSegmentSizeMax;
    config.seg_max = segment_count_max();
    config.blk_size = block_size;
    config.physical_block_exp = block_size == kSectorSize ? 3 : 0;  // 4 KiB: what hosts have
    config.min_io_size = static_cast<uint16_t>(4096 / block_size);
    config.num_queues = 1;
    config.max_discard_sectors = kRangeSectorsMax;
    config.max_discard_seg = 1;
    config.discard_sector_alignment = 4096 / kSectorSize;
    config.max_write_zeroes_sectors = kRangeSectorsMax;
    config.max_write_zeroes_seg = 1;
    config.write_zeroes_may_unmap = 1;
    std::array<uint8_t, sizeof(Config)> bytes;
    std::memcpy(bytes.data(), &config, sizeof(config));
    read_config_bytes(bytes, offset, out);
}

Result<void> VirtioBlock::start(VirtioContext& context) {
    context_ = &context;
    disk_ = TRY(image_->open_queue(context.loop(), *this));
    pending_ = std::vector<Pending>(queue_size_);
    free_tokens_.clear();
    for (uint32_t token = 0; token < queue_size_; ++token) {
        free_tokens_.push_back(queue_size_ - 1 - token);
    }
    return {};
}

void VirtioBlock::process_queue(Queue& queue) {
    if (waiting_) {
        std::optional<Chain> chain = std::exchange(waiting_, std::nullopt);
        if (handle(*chain) == Handled::DiskQueueFull) {
            waiting_ = std::move(chain);
            return;
        }
    }
    while (auto chain = queue.next_chain()) {
        if (handle(*chain) == Handled::DiskQueueFull) {
            waiting_ = std::move(chain);  // a completion runs this queue again
            break;
        }
    }
    disk_->kick();
}

VirtioBlock::Handled VirtioBlock::handle(Chain& chain) {
    Header header{};
    const auto bytes = std::as_writable_bytes(std::span(&header, 1));
    if (chain.copy_out(0, bytes) < kHeaderSize || chain.writable_size() == 0) {
        malformed_.increment();  // nowhere to put a status
        Chain(std::move(chain));
        return Handled::Yes;
    }
    switch (header.type) {
        case kTypeIn: return handle_transfer(chain, DiskOperation::Read, header.sector);
        case kTypeOut: return handle_transfer(chain, DiskOperation::Write, header.sector);
        case kTypeFlush: return handle_flush(chain);
        case kTypeGetId: return handle_get_id(chain);
        case kTypeDiscard: return handle_range(chain, DiskOperation::Discard);
        case kTypeWriteZeroes: return handle_range(chain, DiskOperation::WriteZeroes);
        default: return refuse(chain, kStatusUnsupported);
    }
}

VirtioBlock::Handled VirtioBlock::handle_transfer(Chain& chain, DiskOperation operation,
                                                  uint64_t sector) {
    const bool read = operation == DiskOperation::Read;
    const uint64_t size = read ? chain.writable_size() - 1 : chain.readable_size() - kHeaderSize;
    const size_t buffers = read ? chain.writable().size() : chain.readable().size();
    if (!inside_disk(sector, size) || size > kRequestBytesMax || buffers > kSegmentCountMax + 1 ||
        (!read && image_->read_only())) {
        return refuse(chain, kStatusIoError);
    }
    scratch_.operation = operation;
    scratch_.offset = sector * kSectorSize;
    scratch_.size = size;
    scratch_.vectors.clear();
    if (read) {
        chain.writable_vectors(0, size, scratch_.vectors);
    } else {
        chain.readable_vectors(kHeaderSize, size, scratch_.vectors);
    }
    return submit(chain);
}

VirtioBlock::Handled VirtioBlock::handle_range(Chain& chain, DiskOperation operation) {
    const uint64_t feature =
        operation == DiskOperation::Discard ? kFeatureDiscard : kFeatureWriteZeroes;
    if ((context_->features() & feature) == 0) {
        return refuse(chain, kStatusUnsupported);
    }
    Range range{};
    if (chain.readable_size() != kHeaderSize + sizeof(Range)) {  // max_*_seg is 1
        return refuse(chain, kStatusIoError);
    }
    chain.copy_out(kHeaderSize, std::as_writable_bytes(std::span(&range, 1)));
    const uint32_t known = operation == DiskOperation::WriteZeroes ? kRangeUnmap : 0;
    if ((range.flags & ~known) != 0) {  // §5.2.6.2: unknown flags, or unmap on a discard
        return refuse(chain, kStatusUnsupported);
    }
    const uint64_t size = uint64_t{range.sector_count} * kSectorSize;
    if (range.sector_count > kRangeSectorsMax || !inside_disk(range.sector, size) ||
        image_->read_only()) {
        return refuse(chain, kStatusIoError);
    }
    scratch_.operation = operation;
    scratch_.may_unmap = (range.flags & kRangeUnmap) != 0;
    scratch_.offset = range.sector * kSectorSize;
    scratch_.size = size;
    scratch_.vectors.clear();
    return submit(chain);
}

VirtioBlock::Handled VirtioBlock::handle_flush(Chain& chain) {
    scratch_.operation = DiskOperation::Flush;
    scratch_.offset = 0;
    scratch_.size = 0;
    scratch_.vectors.clear();
    return submit(chain);
}

VirtioBlock::Handled VirtioBlock::handle_get_id(Chain& chain) {
    if (chain.writable_size() < kIdSize + 1) {
        return refuse(chain, kStatusIoError);
    }
    std::array<std::byte, kIdSize> id{};  // §5.2.6: padded with zeros, no terminator when full
    std::memcpy(id.data(), serial_.data(), std::min(serial_.size(), id.size()));
    chain.copy_in(0, id);
    finish(chain, kStatusOk);
    return Handled::Yes;
}

VirtioBlock::Handled VirtioBlock::refuse(Chain& chain, uint8_t status) {
    errors_.increment();
    finish(chain, status);
    return Handled::Yes;
}

VirtioBlock::Handled VirtioBlock::submit(Chain& chain) {
    if (free_tokens_.empty()) {
        return Handled::DiskQueueFull;
    }
    const uint32_t token = free_tokens_.back();
    scratch_.token = token;
    const DiskOperation operation = scratch_.operation;
    const uint64_t size = scratch_.size;
    // The chain first: a completion may come from inside submit().
    pending_[token] = {std::move(chain), operation, size};
    free_tokens_.pop_back();
    if (disk_->submit(scratch_)) {
        return Handled::Yes;
    }
    chain = std::move(*pending_[token].chain);
    pending_[token].chain.reset();
    free_tokens_.push_back(token);
    return Handled::DiskQueueFull;
}

void VirtioBlock::disk_completed(uint32_t token, int result) {
    Pending& pending = pending_[token];
    KUMOI_ASSERT(pending.chain.has_value());
    if (result == 0) {
        count(pending.operation, pending.size);
    } else {
        errors_.increment();
    }
    finish(*pending.chain, result == 0 ? kStatusOk : kStatusIoError);
    pending.chain.reset();
    free_tokens_.push_back(token);
}

void VirtioBlock::disk_batch_done() {
    Queue* queue = context_->queue(0);
    if (queue == nullptr) {
        return;
    }
    queue->publish();
    if (waiting_) {
        context_->run_queue(0);
    }
}

// Writes the status byte, the last the device may write, and returns the chain.
void VirtioBlock::finish(Chain& chain, uint8_t status) {
    const uint64_t writable = chain.writable_size();
    chain.copy_in(writable - 1, std::as_bytes(std::span(&status, 1)));
    chain.add_used(static_cast<uint32_t>(writable));
    Chain(std::move(chain));
}

void VirtioBlock::quiesce() {
    if (!disk_) {
        return;
    }
    disk_->drain();
    if (waiting_) {  // the newest one taken
        context_->queue(0)->put_back(std::move(*waiting_));
        waiting_.reset();
    }
}

void VirtioBlock::stop() {
    disk_.reset();
    pending_.clear();
    context_ = nullptr;
}

bool VirtioBlock::inside_disk(uint64_t sector, uint64_t size) const {
    const uint64_t capacity = image_->size() / kSectorSize;
    return size > 0 && size % kSectorSize == 0 && sector < capacity &&
           size / kSectorSize <= capacity - sector;
}

void VirtioBlock::count(DiskOperation operation, uint64_t bytes) {
    switch (operation) {
        case DiskOperation::Read:
            reads_.increment();
            read_bytes_.increment(bytes);
            break;
        case DiskOperation::Write:
            writes_.increment();
            write_bytes_.increment(bytes);
            break;
        case DiskOperation::Flush: flushes_.increment(); break;
        case DiskOperation::Discard: discards_.increment(); break;
        case DiskOperation::WriteZeroes: write_zeroes_.increment(); break;
    }
}

DeviceStatistics VirtioBlock::statistics() const {
    return {{"reads", reads_.value()},
            {"read_bytes", read_bytes_.value()},
            {"writes", writes_.value()},
            {"write_bytes", write_bytes_.value()},
            {"flushes", flushes_.value()},
            {"discards", discards_.value()},
            {"write_zeroes", write_zeroes_.value()},
            {"errors", errors_.value()},
            {"malformed_chains", malformed_.value()}};
}

}  // namespace kumoi::hypervisor
