// CommitJob: writes what a qcow2 disk's image holds into its backing file, beside the guest's
// requests, until both are equal; then the disk goes on in the backing file. While it runs the
// backing file is only changed where the image hides it, so the disk is right at every moment, also
// if everything ends here: the image is complete until the switch.
//
// The work is done in rounds: the first copies everything the image has, each following what was
// written during the one before, and the last, with the disk standing still, what is left. A round
// leaves out what is being written while it runs: a read that began before may still go past the
// image to its backing file.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "hypervisor/block/live/live_disk.h"
#include "hypervisor/block/qcow2/store.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class CommitJob final : public LiveJob {
public:
    static Result<std::unique_ptr<CommitJob>> create(FileSource& files, Qcow2Image& image);
    ~CommitJob() override { finish_unsettled(); }

    // While the disk stands still, before start().
    Result<void> begin();

protected:
    Result<void> work() override;
    Result<bool> settle(const Result<void>& worked) override;

private:
    using Extents = std::vector<std::pair<uint64_t, uint64_t>>;
    explicit CommitJob(Qcow2Image& image) : LiveJob("commit"), image_(image) {}
    Result<void> open_base(FileSource& files);
    Result<uint64_t> take_changes();
    Result<void> copy(uint64_t offset, uint64_t size);
    bool is_hidden(qcow2::MappedExtent& extent) const;
    int copy_extent(const qcow2::MappedExtent& extent, std::byte* buffer);
    void give_back();

    Qcow2Image& image_;
    qcow2::Store* below_ = nullptr;  // the backing file as the image reads it
    std::unique_ptr<qcow2::Store> base_;
    Extents changes_;
    uint64_t granularity_ = 0;  // of the changes
    int rounds_ = 0;
    bool recording_ = false;
};

}  // namespace kumoi::hypervisor
