// ScsiDisk: a direct access block device as a SCSI target (SPC-5, SBC-4) over a DiskImage: what
// SeaBIOS, OVMF and Linux's sd driver ask a disk.
//
// Logical blocks are the image's. The write cache starts as the image says and is the driver's to
// turn off and on (MODE SELECT, caching page). Thinly provisioned where the image can discard:
// UNMAP, WRITE SAME with UNMAP. A command after a reset, and after the disk has grown, is first
// told so (unit attention). Threading as ScsiTarget.
#pragma once

#include <array>
#include <atomic>
#include <string>

#include "hypervisor/scsi/target.h"

namespace kumoi::hypervisor {

class ScsiDisk final : public ScsiTarget {
public:
    static constexpr uint64_t kTransferBytesMax = uint64_t{8} << 20;
    static constexpr uint64_t kRangeBytesMax = uint64_t{2} << 30;  // unmap, zeroes
    static constexpr size_t kSerialSizeMax = 36;

    // `write_cache` belongs to whoever writes to the image.
    ScsiDisk(const DiskImage& image, std::atomic<bool>& write_cache, std::string serial);

    size_t parameter_size(std::span<const uint8_t> cdb) const override;
    ScsiReply execute(std::span<const uint8_t> cdb, std::span<const uint8_t> parameters) override;
    ScsiReply failed(DiskOperation operation, int result) const override;
    void reset() override;
    void logical_unit_reset() override;
    void capacity_changed();
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

private:
    using Cdb = std::array<uint8_t, 16>;
    struct Range {
        uint64_t block;
        uint64_t count;
    };
    ScsiReply execute_padded(const Cdb& cdb, std::span<const uint8_t> parameters);
    ScsiReply request_sense(const Cdb& cdb);
    ScsiReply inquiry(const Cdb& cdb) const;
    ScsiReply vital_product_data(uint8_t page) const;
    ScsiReply mode_sense(const Cdb& cdb, bool ten) const;
    ScsiReply mode_select(const Cdb& cdb, bool ten, std::span<const uint8_t> parameters);
    ScsiReply set_caching_page(std::span<const uint8_t> page);
    ScsiReply read_capacity10() const;
    ScsiReply service_action_in(const Cdb& cdb) const;
    ScsiReply transfer(DiskOperation operation, const Range& range, uint8_t flags) const;
    ScsiReply verify(const Range& range, uint8_t flags) const;
    ScsiReply unmap(std::span<const uint8_t> parameters) const;
    ScsiReply write_same(const Cdb& cdb, const Range& range, std::span<const uint8_t> block) const;
    std::vector<uint8_t> caching_page(bool write_cache) const;
    std::vector<uint8_t> mode_pages(uint8_t page, uint8_t control) const;

    uint64_t block_count() const { return image_.size() / block_size_; }
    bool contains(const Range& range) const;
    bool thin() const { return image_.can_discard() && !image_.read_only(); }
    uint64_t bytes(uint64_t blocks) const { return blocks * block_size_; }

    const DiskImage& image_;
    const uint32_t block_size_;
    std::atomic<bool>& write_cache_;
    const std::string serial_;
    uint16_t attention_;  // additional sense code to tell first; 0: none
};

}  // namespace kumoi::hypervisor
