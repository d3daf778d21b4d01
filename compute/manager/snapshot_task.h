// SnapshotTask: a server's root disk becomes an image (Nova's snapshot_instance, backup_instance).
// The image was made, queued, by whoever asked. When anything fails the image is removed and the
// server is as before. `snapshot_to_image` is the part that shelving shares.
#pragma once

#include "compute/manager/verb.h"

namespace kumoi::compute {

enum class SnapshotKind { Image, Backup };

class SnapshotTask {
public:
    SnapshotTask(NodeServices& services, const Operation& operation, SnapshotKind kind)
        : services_(services), operation_(operation), kind_(kind) {}

    Result<void> execute();
    // After a crash: keeps an image that is whole, removes any other and says so.
    Result<void> finish_after_restart();

private:
    Result<void> run_steps();
    Result<void> rotate_backups();
    Result<void> record_end();
    void rollback();

    NodeServices& services_;
    const Operation& operation_;
    const SnapshotKind kind_;
    Instance instance_;
};

// Nova's words for the two halves.
struct SnapshotStates {
    const char* pending_upload;
    const char* uploading;
};

// Extracts the disk and uploads it into the queued image. `from`: the task_states it may start in.
Result<void> snapshot_to_image(NodeServices& services, const Operation& operation,
                               const Instance& instance, const std::string& image_id,
                               const SnapshotStates& states,
                               std::vector<std::optional<std::string>> from);

}  // namespace kumoi::compute
