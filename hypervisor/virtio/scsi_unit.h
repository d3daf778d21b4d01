// ScsiUnit: one target of a VirtioScsi with its LUN 0: the commands it understands (ScsiTarget),
// its image, and its requests under way (DiskStream).
//
// Made and destroyed on the control thread while it is not started; everything else on the
// controller's I/O thread, but statistics and limits.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hypervisor/scsi/target.h"
#include "hypervisor/virtio/device.h"
#include "hypervisor/virtio/disk_stream.h"
#include "hypervisor/virtio/guest_disk.h"
#include "hypervisor/virtio/scsi_frame.h"

namespace kumoi::hypervisor {

class ScsiDisk;

struct ScsiUnitConfig {
    enum class Kind { Cdrom, Disk };
    Kind kind = Kind::Cdrom;
    unsigned target = 0;
    std::string id;
    std::unique_ptr<DiskImage> image;  // null: a drive without a medium
    std::string serial;                // empty: the id
    DiskLimits limits;
};

class ScsiUnit final : public GuestDisk, private DiskStreamOwner {
public:
    // What the controller does for its units.
    struct Hooks {
        std::function<void()> publish;                 // answers are in the ring
        std::function<void()> take_turn;               // process the request queue, soon
        std::function<void(unsigned target)> resized;  // from any thread
    };
    // No more than `requests_max` requests are given to handle() before they are answered.
    ScsiUnit(ScsiUnitConfig config, uint32_t requests_max, Hooks hooks);
    ~ScsiUnit() override;

    unsigned target() const { return target_; }
    const std::string& id() const { return id_; }
    bool is_disk() const { return disk_ != nullptr; }
    DiskImage& image() override { return *image_; }
    Result<void> set_limits(const DiskLimits& limits, int64_t now_ns) override;
    DiskLimits limits() const override;
    DeviceStatistics statistics() const;
    uint64_t error_count() const { return errors_.value(); }

    Result<void> start(EventLoop& loop, const Clock& clock, const ScsiFrame& frame);
    void handle(Chain& chain, std::span<const uint8_t> cdb);
    void start_waiting();  // first in each turn
    void kick();           // last
    void quiesce();
    void stop();
    void logical_unit_reset();
    void capacity_changed();

    void save(SectionWriter& out) const;
    Result<void> load(SectionReader& in);

private:
    struct Pending {
        std::optional<Chain> chain;
        DiskOperation operation = DiskOperation::Read;
        uint64_t size = 0;
        std::vector<std::byte> pattern;
    };
    void transfer(Chain& chain, ScsiReply& reply);
    void answer(Chain& chain, const ScsiReply& reply, const ScsiFrame::Transferred& transferred);
    void request_done(uint32_t token, int result) override;
    void batch_done() override { hooks_.publish(); }
    void take_turn() override { hooks_.take_turn(); }

    const unsigned target_;
    const std::string id_;
    const Hooks hooks_;
    std::unique_ptr<DiskImage> image_;
    BlockShared shared_;
    std::unique_ptr<ScsiTarget> commands_;
    ScsiDisk* disk_ = nullptr;  // commands_, if it is a disk
    DiskStream stream_;
    ScsiFrame frame_;
    std::vector<Pending> pending_;  // by token
    Counter errors_, refused_;
};

}  // namespace kumoi::hypervisor
