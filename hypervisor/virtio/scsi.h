// VirtioScsi: the SCSI host device (virtio 1.2 §5.6) with CD-ROM drives as targets 0, 1, ... each
// with LUN 0.
//
// One request queue. Commands run in the drive (hypervisor/scsi/cdrom) at once; only reads of the
// medium are asynchronous, by the drive's DiskQueue. Task management finds nothing to abort that
// would not finish by itself. A chain that cannot hold a response is returned empty and counted.
// Threading as VirtioDevice.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/scsi/cdrom.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

class VirtioScsi final : public VirtioDevice {
public:
    static constexpr uint16_t kQueueSize = 128;
    static constexpr uint32_t kSegmentCountMax = kQueueSize - 2;
    static constexpr uint16_t kTypeScsi = 8;

    struct Medium {
        std::unique_ptr<DiskImage> image;  // null: an empty drive
        std::string serial;
    };
    VirtioScsi(std::string name, std::vector<Medium> drives);
    ~VirtioScsi() override;

    std::string name() const override { return name_; }
    uint16_t type() const override { return kTypeScsi; }
    uint32_t class_code() const override { return 0x01'00'00; }  // SCSI controller
    uint64_t features() const override { return 0; }
    std::vector<uint16_t> queue_sizes() const override {
        return {kQueueSize, kQueueSize, kQueueSize};
    }
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    void write_config(uint32_t offset, std::span<const uint8_t> bytes) override;
    DeviceStatistics statistics() const override;

    Result<void> start(VirtioContext& context) override;
    void process_queue(Queue& queue) override;
    void quiesce() override;
    void stop() override;
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

private:
    struct Drive;
    struct Pending {
        std::optional<Chain> chain;
        uint64_t size = 0;
    };
    enum class Handled { Yes, DiskQueueFull };
    struct Reply;
    Handled handle_request(Chain& chain);
    void handle_control(Chain& chain);
    Handled start_read(Chain& chain, Drive& drive, const ScsiReply::Extent& extent);
    Drive* find_drive(std::span<const uint8_t, 8> lun, uint8_t& response);
    void respond(Chain& chain, const ScsiReply& reply, uint64_t data_size);
    void respond_failure(Chain& chain, uint8_t response);
    void finish_read(uint32_t token, int result);
    size_t response_size() const;

    const std::string name_;
    std::vector<std::unique_ptr<Drive>> drives_;
    std::atomic<uint32_t> sense_size_;  // §5.6.4: the driver may change both
    std::atomic<uint32_t> cdb_size_;
    uint32_t running_sense_size_ = 0;  // as they were at start(): what requests look like
    uint32_t running_cdb_size_ = 0;
    VirtioContext* context_ = nullptr;
    std::vector<Pending> pending_;  // by token
    std::vector<uint32_t> free_tokens_;
    DiskRequest scratch_;
    std::optional<Chain> waiting_;  // taken when a disk queue was full; goes first
    Counter commands_, reads_, read_bytes_, errors_, malformed_;
};

}  // namespace kumoi::hypervisor
