// DiskControl: the control methods that work on a running disk: parameters checked, the job begun
// with the disk standing still for a moment, ended the same way.
//
//     disk_backup {disk, target, format, mode, bitmap, backing, backing_format}
//     disk_snapshot {disk, overlay, backing}   disk_commit {disk}   disk_flatten {disk}
//     disk_job {disk}   disk_job_cancel {disk}
//     bitmap_add {disk, name, granularity}   bitmap_remove, bitmap_clear {disk, name}
//     bitmap_list {disk}
//
// Loop thread only. docs/reference/disk-jobs.md describes parameters and answers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/json.h"
#include "base/result.h"
#include "hypervisor/block/live/live_disk.h"
#include "hypervisor/block/live/overlay_set.h"
#include "hypervisor/block/qcow2/qcow2_image.h"
#include "hypervisor/control/protocol.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class DiskControl {
public:
    struct Machine {
        // NotFound: there is no such disk.
        std::function<Result<DiskImage*>(const std::string& disk)> disk;
        // Runs it with every queue of the disk drained and nothing coming.
        std::function<Result<void>(const std::string& disk, const std::function<Result<void>()>&)>
            with_disk_still;
        std::function<void(const ControlEvent&)> event;
        // The disk's image is another file now: the configuration follows.
        std::function<void(const std::string& disk, const std::string& path)> disk_moved;
    };
    DiskControl(EventLoop& loop, FileSource& files, const Clock& clock, Machine machine)
        : loop_(loop), files_(files), clock_(clock), machine_(std::move(machine)) {}

    // Nothing: the method is not one of ours.
    std::optional<Result<Json>> handle(const ControlRequest& request);

    // Overlays for these disks, ready to be entered; Conflict: a job of one of them runs.
    Result<OverlaySet> open_overlays(std::span<const OverlayRequest> requests);
    // The configuration follows those that were entered.
    void entered(const OverlaySet& overlays);

private:
    Result<Json> backup(const JsonView& params);
    Result<Json> snapshot(const JsonView& params);
    Result<Json> commit(const JsonView& params);
    Result<Json> flatten(const JsonView& params);
    Result<Json> job(const JsonView& params);
    Result<Json> job_cancel(const JsonView& params);
    Result<Json> bitmap_add(const JsonView& params);
    Result<Json> bitmap_change(const JsonView& params, bool remove);
    Result<Json> bitmap_remove(const JsonView& params) { return bitmap_change(params, true); }
    Result<Json> bitmap_clear(const JsonView& params) { return bitmap_change(params, false); }
    Result<Json> bitmap_list(const JsonView& params);

    Result<LiveDisk*> disk(const std::string& id) const;
    Result<Qcow2Image*> qcow2_disk(const std::string& id) const;
    Result<LiveDisk*> idle_disk(const std::string& id) const;  // Conflict: a job runs
    Json start(const std::string& id, LiveDisk& disk, std::unique_ptr<LiveJob> job);
    void run(const std::string& id, LiveJob& job);
    void worked(const std::string& id);

    EventLoop& loop_;
    FileSource& files_;
    const Clock& clock_;
    const Machine machine_;
    std::shared_ptr<int> life_ = std::make_shared<int>();  // shared: weakly, with posted functions
};

}  // namespace kumoi::hypervisor
