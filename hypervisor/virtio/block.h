// VirtioBlock: the block device (virtio 1.2 §5.2) onto a DiskImage.
//
// Requests run asynchronously: process_queue() parses chains and submits, completions write the
// status byte and return the chain. Everything a driver may get wrong in a request (outside the
// disk, not a multiple of 512, wrong direction, too long) is answered with IOERR or UNSUPP and
// counted; a chain without room for a status byte is returned empty and counted. Threading as
// VirtioDevice.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

class VirtioBlock final : public VirtioDevice, private DiskClient {
public:
    static constexpr uint32_t kSegmentCountMax = 126;      // data buffers a request
    static constexpr uint32_t kSegmentSizeMax = 1u << 20;  // bytes a buffer
    static constexpr uint64_t kRequestBytesMax = 8u << 20;
    static constexpr uint32_t kRangeSectorsMax = 1u
                                                 << 22;  // discard, write zeroes: 2 GiB a request
    static constexpr uint32_t kSectorSize = 512;

    VirtioBlock(std::string name, std::unique_ptr<DiskImage> image, std::string serial,
                uint16_t queue_size = 256);
    ~VirtioBlock() override;

    std::string name() const override { return name_; }
    uint16_t type() const override { return virtio::kTypeBlock; }
    uint32_t class_code() const override { return 0x01'80'00; }  // mass storage, other
    uint64_t features() const override;
    std::vector<uint16_t> queue_sizes() const override { return {queue_size_}; }
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    DeviceStatistics statistics() const override;

    Result<void> start(VirtioContext& context) override;
    void process_queue(Queue& queue) override;
    void quiesce() override;
    void stop() override;

private:
    struct Header;  // §5.2.6 struct virtio_blk_req
    struct Range;   // §5.2.6 struct virtio_blk_discard_write_zeroes
    struct Pending {
        std::optional<Chain> chain;
        DiskOperation operation = DiskOperation::Read;
        uint64_t size = 0;
    };
    enum class Handled { Yes, DiskQueueFull };
    Handled handle(Chain& chain);
    Handled handle_transfer(Chain& chain, DiskOperation operation, uint64_t sector);
    Handled handle_range(Chain& chain, DiskOperation operation);
    Handled handle_flush(Chain& chain);
    Handled handle_get_id(Chain& chain);
    Handled refuse(Chain& chain, uint8_t status);
    Handled submit(Chain& chain);  // scratch_ as the request
    void disk_completed(uint32_t token, int result) override;
    void disk_batch_done() override;
    static void finish(Chain& chain, uint8_t status);
    void count(DiskOperation operation, uint64_t bytes);
    bool inside_disk(uint64_t sector, uint64_t size) const;
    uint32_t segment_count_max() const;

    const std::string name_;
    const std::string serial_;
    const uint16_t queue_size_;
    std::unique_ptr<DiskImage> image_;
    VirtioContext* context_ = nullptr;
    std::unique_ptr<DiskQueue> disk_;
    std::vector<Pending> pending_;  // by token
    std::vector<uint32_t> free_tokens_;
    DiskRequest scratch_;
    std::optional<Chain> waiting_;  // taken when the disk queue was full; goes first
    Counter reads_, writes_, flushes_, discards_, write_zeroes_;
    Counter read_bytes_, write_bytes_, errors_, malformed_;
};

}  // namespace kumoi::hypervisor
