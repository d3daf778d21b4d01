// VirtioBlock: the block device (virtio 1.2 §5.2) onto a DiskImage.
//
// Each request queue is a BlockQueue with a DiskQueue of its own; queues are spread over the
// device's I/O threads. Everything a driver may get wrong in a request (outside the disk, not a
// multiple of 512, wrong direction, too long) is answered with IOERR or UNSUPP and counted; a chain
// without room for a status byte is returned empty and counted. The write cache is the driver's to
// turn off and on (CONFIG_WCE); without FLUSH every write is durable before it is answered.
// Threading as VirtioDevice.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hypervisor/block/disk_image.h"
#include "hypervisor/virtio/block_queue.h"
#include "hypervisor/virtio/device.h"
#include "hypervisor/virtio/guest_disk.h"

namespace kumoi::hypervisor {

class VirtioBlock final : public VirtioDevice, public GuestDisk {
public:
    static constexpr uint32_t kSegmentCountMax = 126;      // data buffers a request
    static constexpr uint32_t kSegmentSizeMax = 1u << 20;  // bytes a buffer
    static constexpr uint64_t kRequestBytesMax = 8u << 20;
    static constexpr uint32_t kRangeSectorsMax = 1u
                                                 << 22;  // discard, write zeroes: 2 GiB a request
    static constexpr uint32_t kSectorSize = 512;
    static constexpr uint16_t kQueueCountMax = 16;
    static constexpr uint16_t kThreadCountMax = 4;

    // As many queues as asked for, if the image can serve them.
    VirtioBlock(std::string name, std::unique_ptr<DiskImage> image, std::string serial,
                uint16_t queue_size = 256, uint16_t queue_count = 1);
    ~VirtioBlock() override;

    std::string name() const override { return name_; }
    uint16_t type() const override { return virtio::kTypeBlock; }
    uint32_t class_code() const override { return 0x01'80'00; }  // mass storage, other
    uint64_t features() const override;
    std::vector<uint16_t> queue_sizes() const override {
        return std::vector<uint16_t>(queues_.size(), queue_size_);
    }
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    void write_config(uint32_t offset, std::span<const uint8_t> bytes) override;
    DeviceStatistics statistics() const override;

    uint16_t thread_count() const override;
    uint16_t thread_of(uint16_t queue_index) const override;
    Result<void> start(VirtioContext& context) override;
    Result<void> start_queue(Queue& queue) override;
    void process_queue(Queue& queue) override;
    void quiesce_queue(Queue& queue) override;
    void stop_queue(Queue& queue) override;
    void stop() override;

    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

    DiskImage& image() override { return *image_; }
    bool write_cache() const { return shared_.write_cache; }
    // From any thread, also while running.
    Result<void> set_limits(const DiskLimits& limits, int64_t now_ns) override;
    DiskLimits limits() const override { return shared_.throttle.limits(); }

private:
    uint32_t segment_count_max() const;

    const std::string name_;
    const uint16_t queue_size_;
    std::unique_ptr<DiskImage> image_;
    BlockShared shared_;
    std::vector<std::unique_ptr<BlockQueue>> queues_;
    VirtioContext* context_ = nullptr;
};

}  // namespace kumoi::hypervisor
