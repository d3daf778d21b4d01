// BackupJob: copies a disk as it was at one instant to a BackupTarget while its guest goes on
// writing. The instant is begin(), with the disk standing still: from then on a CopyGate keeps the
// guest from changing what is not copied yet.
//
// With a bitmap the copy has only what the bitmap marks (Incremental), and in both modes the bitmap
// records from that instant on what changes: the next incremental backup. If the backup fails the
// bitmap has again what it had, and what changed since.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "hypervisor/block/live/backup_target.h"
#include "hypervisor/block/live/live_disk.h"

namespace kumoi::hypervisor {

class BackupJob final : public LiveJob {
public:
    enum class Mode { Full, Incremental };
    struct Options {
        Mode mode = Mode::Full;
        std::string bitmap;  // empty: none. Full: made if it is not there
    };

    BackupJob(LiveDisk& disk, std::unique_ptr<BackupTarget> target, Options options);
    ~BackupJob() override;

    // While the disk stands still.
    Result<void> begin();

protected:
    Result<void> work() override;
    Result<bool> settle(const Result<void>& worked) override;

private:
    using Extents = std::vector<std::pair<uint64_t, uint64_t>>;
    Result<void> take_bitmap();
    void restore_bitmap();
    Result<void> copy(qcow2::BlockSource& source, const CopyGate::Piece& piece,
                      std::span<std::byte> buffer);

    LiveDisk& disk_;
    std::unique_ptr<BackupTarget> target_;
    const Options options_;
    const uint64_t size_;
    std::unique_ptr<CopyGate> gate_;  // until begin()
    CopyGate* armed_ = nullptr;       // the disk's
    Extents taken_;                   // what the bitmap had
    bool bitmap_taken_ = false;
    bool bitmap_made_ = false;
};

}  // namespace kumoi::hypervisor
