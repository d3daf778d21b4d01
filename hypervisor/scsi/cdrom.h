// Cdrom: one CD or DVD drive as a SCSI target (SPC-4, SBC-3, MMC-6): what SeaBIOS, OVMF, GRUB and
// Linux's sr driver ask such a drive.
//
// execute() is the whole drive: a command descriptor block in, a reply out. Data that comes from
// the medium is not in the reply: `read` says which bytes of the image the caller has to fetch.
// Bytes of the CDB are the guest's: anything malformed ends in CHECK CONDITION with sense data. Not
// thread safe: the I/O thread of its controller.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

namespace scsi {
constexpr uint8_t kGood = 0x00;
constexpr uint8_t kCheckCondition = 0x02;
constexpr size_t kSenseSize = 18;  // fixed format
}  // namespace scsi

struct ScsiReply {
    struct Extent {
        uint64_t offset;  // bytes into the image
        uint64_t size;
    };
    uint8_t status = scsi::kGood;
    std::vector<uint8_t> data;  // to the guest
    std::optional<Extent> read;
    std::vector<uint8_t> sense;  // with CHECK CONDITION
};

// The reply to a transfer that the host could not do.
ScsiReply scsi_read_error();

class Cdrom {
public:
    static constexpr uint32_t kSectorSize = 2048;
    // No single command moves more: what Linux asks of a drive is far below.
    static constexpr uint64_t kTransferBytesMax = 16u << 20;

    // `image_size` in bytes, 0: no medium. `serial` is shown in its vital product data.
    Cdrom(uint64_t image_size, std::string serial);

    ScsiReply execute(std::span<const uint8_t> cdb);
    void reset();  // tray closed, door unlocked
    bool ejected() const { return ejected_; }
    void save(SectionWriter& out) const;
    Result<void> load(SectionReader& in);

private:
    using Cdb = std::array<uint8_t, 16>;
    ScsiReply execute_padded(const Cdb& cdb);
    std::optional<ScsiReply> execute_medium(const Cdb& cdb);
    ScsiReply inquiry(const Cdb& cdb) const;
    ScsiReply vital_product_data(uint8_t page) const;
    ScsiReply mode_sense(const Cdb& cdb, bool ten) const;
    ScsiReply start_stop(const Cdb& cdb);
    ScsiReply read_capacity(bool sixteen) const;
    ScsiReply read(uint64_t first, uint64_t count) const;
    ScsiReply read_toc(const Cdb& cdb) const;
    ScsiReply get_configuration(const Cdb& cdb) const;
    ScsiReply get_event_status(const Cdb& cdb);
    ScsiReply read_disc_information() const;
    ScsiReply read_track_information() const;
    bool present() const { return sectors_ > 0 && !ejected_; }

    const uint64_t sectors_;
    const std::string serial_;
    bool ejected_ = false;
    bool locked_ = false;
    bool media_event_ = true;  // a new medium, until somebody asked
};

}  // namespace kumoi::hypervisor
