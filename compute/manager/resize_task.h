// Resize on one host: Nova's prep_resize, resize_instance and finish_resize, then confirm_resize or
// revert_resize. Both flavors and both disks are held until one of the last two. Up to the moment
// the record takes the new flavor a failure, or a crash, goes back to the old server; from then on
// a crash goes forward and a failure goes back all the same, for the old disk is still there.
#pragma once

#include "compute/manager/verb.h"

namespace kumoi::compute {

class ResizeTask {
public:
    ResizeTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    Result<void> execute();
    // After a crash, from whatever task_state the record has.
    Result<void> finish_after_restart();

private:
    Result<void> prep_resize();
    Result<void> migrate_disk();
    Result<void> finish_resize();
    Result<void> undo_if_failed(Result<void> result);
    Result<void> rollback();

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
};

Result<void> confirm_resize_task(NodeServices& services, const Operation& operation);
Result<void> revert_resize_task(NodeServices& services, const Operation& operation);

}  // namespace kumoi::compute
