#include "hypervisor/block/live/flatten_job.h"

#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/qcow2/qcow2_image.h"

namespace kumoi::hypervisor {

FlattenJob::FlattenJob(Qcow2Image& image) : LiveJob("flatten"), image_(image) {
    total_bytes_ = image.store().size();
}

Result<void> FlattenJob::work() {
    qcow2::BlockingPort port;
    qcow2::Store& store = image_.store();
    for (uint64_t at = 0; at < store.size();) {
        if (cancelled()) {
            return Error::cancelled("flattening was cancelled")
                .with_hint("what was copied stays; it can be started again");
        }
        uint64_t done = 0;
        const int status = qcow2::run_waiting(port, store.pull(port, at, store.size() - at, done));
        if (status < 0) {
            return store.error_of(status, "flattening");
        }
        at += done;
        done_bytes_ = at;
    }
    const int status = qcow2::run_waiting(port, store.flush(port));
    return status < 0 ? Result<void>(store.error_of(status, "flushing")) : Result<void>();
}

Result<bool> FlattenJob::settle(const Result<void>& worked) {
    if (!worked.ok() || cancelled()) {  // cancelled: perhaps because the disk does not stand still
        return false;
    }
    TRY(image_.forget_backing());
    return true;
}

}  // namespace kumoi::hypervisor
