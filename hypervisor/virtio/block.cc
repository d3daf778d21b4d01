#include "hypervisor/virtio/block.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "hypervisor/virtio/block_wire.h"

namespace kumoi::hypervisor {

using namespace virtio_block;

namespace {

constexpr uint16_t kFieldWriteCache = 1;

}  // namespace

VirtioBlock::VirtioBlock(std::string name, std::unique_ptr<DiskImage> image, std::string serial,
                         uint16_t queue_size, uint16_t queue_count)
    : name_(std::move(name)),
      queue_size_(queue_size),
      image_(std::move(image)),
      shared_{.image = *image_, .serial = std::move(serial)} {
    shared_.write_cache = image_->write_cache();
    const uint16_t count = std::clamp<uint16_t>(
        queue_count, 1, std::min<uint16_t>(kQueueCountMax, image_->queue_count_max()));
    for (uint16_t index = 0; index < count; ++index) {
        queues_.push_back(std::make_unique<BlockQueue>(shared_, index, queue_size_));
    }
}

VirtioBlock::~VirtioBlock() = default;

uint64_t VirtioBlock::features() const {
    uint64_t bits = kFeatureSizeMax | kFeatureSegMax | kFeatureBlockSize | kFeatureTopology;
    bits |= image_->read_only() ? kFeatureReadOnly : kFeatureFlush | kFeatureConfigWriteCache;
    bits |= image_->can_discard() ? kFeatureDiscard | kFeatureWriteZeroes : 0;
    bits |= queues_.size() > 1 ? kFeatureMultiQueue : 0;
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
    config.writeback = shared_.write_cache ? 1 : 0;
    config.num_queues = static_cast<uint16_t>(queues_.size());
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

// §5.2.5: the driver turns the write cache off and on; requests taken from now on follow it.
void VirtioBlock::write_config(uint32_t offset, std::span<const uint8_t> bytes) {
    if (offset == kWritebackAt && bytes.size() == 1 &&
        (shared_.features & kFeatureConfigWriteCache) != 0) {
        shared_.write_cache = bytes[0] != 0;
    }
}

uint16_t VirtioBlock::thread_count() const {
    return static_cast<uint16_t>(std::min<size_t>(queues_.size(), kThreadCountMax));
}

uint16_t VirtioBlock::thread_of(uint16_t queue_index) const {
    return static_cast<uint16_t>(queue_index % thread_count());
}

Result<void> VirtioBlock::start(VirtioContext& context) {
    context_ = &context;
    shared_.features = context.features();
    if ((context.features() & kFeatureFlush) == 0) {
        shared_.write_cache = false;  // §5.2.5.2: a driver that cannot flush needs it off
    }
    image_->on_resize([&context] { context.config_changed(); });
    return {};
}

Result<void> VirtioBlock::start_queue(Queue& queue) {
    return queues_[queue.index()]->start(*context_);
}

void VirtioBlock::process_queue(Queue& queue) {
    queues_[queue.index()]->process(queue);
}

void VirtioBlock::quiesce_queue(Queue& queue) {
    queues_[queue.index()]->quiesce();
}

void VirtioBlock::stop_queue(Queue& queue) {
    queues_[queue.index()]->stop();
}

// The reset that brought us here also brings the write cache back to what the operator chose.
void VirtioBlock::stop() {
    image_->on_resize({});
    shared_.features = 0;
    shared_.write_cache = image_->write_cache();
    context_ = nullptr;
}

// --- Snapshots: a pause leaves nothing in flight, so only the driver's choice is left ---

void VirtioBlock::save(SectionWriter& out) const {
    out.flag(kFieldWriteCache, shared_.write_cache);
}

Result<void> VirtioBlock::load(SectionReader& in) {
    shared_.write_cache = TRY(in.flag(kFieldWriteCache));
    return {};
}

Result<void> VirtioBlock::set_limits(const DiskLimits& limits, int64_t now_ns) {
    TRY(check_limits(limits));
    shared_.throttle.set(limits, now_ns);
    return {};
}

DeviceStatistics VirtioBlock::statistics() const {
    const auto sum = [this](Counter BlockCounters::*counter) {
        uint64_t total = 0;
        for (const auto& queue : queues_) {
            total += (queue->counters().*counter).value();
        }
        return total;
    };
    return {{"reads", sum(&BlockCounters::reads)},
            {"read_bytes", sum(&BlockCounters::read_bytes)},
            {"writes", sum(&BlockCounters::writes)},
            {"write_bytes", sum(&BlockCounters::write_bytes)},
            {"flushes", sum(&BlockCounters::flushes)},
            {"discards", sum(&BlockCounters::discards)},
            {"write_zeroes", sum(&BlockCounters::write_zeroes)},
            {"errors", sum(&BlockCounters::errors)},
            {"malformed_chains", sum(&BlockCounters::malformed)},
            {"throttled", sum(&BlockCounters::throttled)}};
}

}  // namespace kumoi::hypervisor
