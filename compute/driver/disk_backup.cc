#include "compute/driver/disk_backup.h"

#include <fcntl.h>

#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kStepMs = 50;  // between two looks at the job
constexpr int64_t kCancelPatienceMs = 10'000;

Error ended() {
    return Error::unavailable("The guest ended while its disk was copied");
}

// The state of the disk's job once it is over; Timeout while it runs.
Result<Json> wait_for_job(const GuestProcess& process, const Json& disk, int64_t timeout_ms) {
    for (int64_t waited_ms = 0; waited_ms < timeout_ms; waited_ms += kStepMs) {
        const auto job = process.call("disk_job", disk);
        if (job.ok() && job->string_or("state") != "running") {
            return *job;
        }
        if (TRY(process.wait_end(kStepMs))) {
            return ended();
        }
        if (!job.ok() && job.error().code != ErrorCode::Timeout) {
            return job.error();
        }
    }
    return Error::timeout("The disk was not copied within {} s", timeout_ms / 1000);
}

// What a daemon that died had begun for the same file: nobody waits for it. Another's job stays.
Result<void> end_orphan(const GuestProcess& process, const Json& disk, const std::string& target) {
    const Json job = TRY(process.call("disk_job", disk));
    if (job.string_or("state") != "running" || job.string_or("target") != target) {
        return {};
    }
    log_info("driver", "cancelling what an earlier daemon had begun",
             {{"job", job.string_or("job")}});
    (void)process.call("disk_job_cancel", disk);
    TRY(wait_for_job(process, disk, kCancelPatienceMs));
    return {};
}

Result<void> run_backup(const GuestProcess& process, const DiskBackup& backup, int64_t timeout_ms) {
    const Json disk = Json::object({{"disk", backup.disk}});
    TRY(end_orphan(process, disk, backup.target));
    const UniqueFd file = TRY(open_file(backup.target, O_RDWR | O_CREAT | O_EXCL, 0600));
    Json params = Json::object({{"disk", backup.disk},
                                {"target", backup.target},
                                {"format", backup.format},
                                {"mode", backup.backing.empty() ? "full" : "incremental"}});
    if (!backup.bitmap.empty()) {
        params.set("bitmap", backup.bitmap);
    }
    if (!backup.backing.empty()) {
        params.set("backing", backup.backing);
    }
    const std::vector<hypervisor::NamedDescriptor> passed = {{backup.target, file.get()}};
    TRY(process.call("disk_backup", params, passed));
    if (backup.begun) {
        backup.begun();
    }
    auto job = wait_for_job(process, disk, timeout_ms);
    if (!job.ok()) {
        (void)process.call("disk_job_cancel", disk);
        return job.error();
    }
    if (job->string_or("state") != "done") {
        return Error::unavailable("The disk was not copied: {}", job->string_or("error"));
    }
    return {};
}

}  // namespace

Result<void> backup_running_disk(const GuestProcess& process, const DiskBackup& backup,
                                 int64_t timeout_ms) {
    auto done = run_backup(process, backup, timeout_ms);
    if (!done.ok()) {
        (void)remove_file(backup.target);
        if (!TRY(process.is_alive())) {
            return ended();
        }
    }
    return done;
}

}  // namespace kumoi::compute
