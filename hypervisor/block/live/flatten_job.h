// FlattenJob: copies what a qcow2 disk still reads from its backing files into the disk's own
// image, beside the guest's requests, and then lets go of them. Cut short at any time the disk is
// as it was; what was copied stays.
#pragma once

#include "hypervisor/block/live/live_disk.h"

namespace kumoi::hypervisor {

class FlattenJob final : public LiveJob {
public:
    explicit FlattenJob(Qcow2Image& image);
    ~FlattenJob() override { finish_unsettled(); }

protected:
    Result<void> work() override;
    Result<bool> settle(const Result<void>& worked) override;

private:
    Qcow2Image& image_;
};

}  // namespace kumoi::hypervisor
