// ScsiTarget: what stands behind one target of a SCSI controller: a CD-ROM drive, a disk. It turns
// a command descriptor block into a reply and touches no medium itself: `transfer` says what the
// controller has to do with the image before it answers.
//
// Bytes of commands and parameters are the guest's: anything malformed ends in CHECK CONDITION with
// sense data. Used by the I/O thread of the controller only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "hypervisor/block/disk_image.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

namespace scsi {
constexpr uint8_t kGood = 0x00;
constexpr uint8_t kCheckCondition = 0x02;
constexpr size_t kSenseSize = 18;                         // fixed format
constexpr size_t kParameterBytesMax = 4096;               // sent along with a command
constexpr uint64_t kPatternBytesMax = uint64_t{8} << 20;  // of one WRITE SAME with data
}  // namespace scsi

struct ScsiReply {
    struct Transfer {
        DiskOperation operation = DiskOperation::Read;
        uint64_t offset = 0;  // bytes into the image
        uint64_t size = 0;
        bool durable = false;            // force unit access
        bool may_unmap = false;          // of WriteZeroes
        std::vector<std::byte> pattern;  // written again and again instead of the guest's data
    };
    uint8_t status = scsi::kGood;
    std::vector<uint8_t> data;  // to the guest
    std::optional<Transfer> transfer;
    std::vector<uint8_t> sense;  // with CHECK CONDITION
};

class ScsiTarget {
public:
    virtual ~ScsiTarget() = default;
    // Parameter bytes that execute() wants with this command; data for the medium is none.
    virtual size_t parameter_size(std::span<const uint8_t> /*cdb*/) const { return 0; }
    virtual ScsiReply execute(std::span<const uint8_t> cdb,
                              std::span<const uint8_t> parameters) = 0;
    // The reply to a transfer that the host could not do: a negative errno.
    virtual ScsiReply failed(DiskOperation operation, int result) const = 0;
    virtual void reset() = 0;             // of the machine or the controller
    virtual void logical_unit_reset() {}  // by task management
    virtual void save(SectionWriter& out) const = 0;
    virtual Result<void> load(SectionReader& in) = 0;
};

}  // namespace kumoi::hypervisor
