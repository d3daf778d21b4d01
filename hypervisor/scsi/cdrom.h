// Cdrom: one CD or DVD drive as a SCSI target (SPC-4, SBC-3, MMC-6): what SeaBIOS, OVMF, GRUB and
// Linux's sr driver ask such a drive.
//
// execute() is the whole drive: a command descriptor block in, a reply out.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hypervisor/scsi/target.h"

namespace kumoi::hypervisor {

class Cdrom final : public ScsiTarget {
public:
    static constexpr uint32_t kSectorSize = 2048;
    // No single command moves more: what Linux asks of a drive is far below.
    static constexpr uint64_t kTransferBytesMax = 8u << 20;

    // `image_size` in bytes, 0: no medium. `serial` is shown in its vital product data.
    Cdrom(uint64_t image_size, std::string serial);

    ScsiReply execute(std::span<const uint8_t> cdb, std::span<const uint8_t> parameters) override;
    ScsiReply failed(DiskOperation operation, int result) const override;
    void reset() override;  // tray closed, door unlocked
    bool ejected() const { return ejected_; }
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

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
