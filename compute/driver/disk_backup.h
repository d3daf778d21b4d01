// Copies of a running guest's disk, made by its kumoi-vmm (docs/reference/disk-jobs.md): the disk
// as it was when the call came, while the guest goes on. Blocking.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "compute/driver/guest_process.h"

namespace kumoi::compute {

struct DiskBackup {
    std::string disk = "root";
    std::string target;  // must not exist; on error it does not
    std::string format = "qcow2";
    // A chain of backups: the bitmap records what changes between them. Empty: a single copy.
    std::string bitmap;
    std::string backing;               // incremental: the file name of the backup before this one
    std::function<void()> begun = {};  // called when the instant is fixed that will be copied
};

// Unavailable when the guest ended meanwhile: its disk is at rest then and can be copied as a file.
Result<void> backup_running_disk(const GuestProcess& process, const DiskBackup& backup,
                                 int64_t timeout_ms);

}  // namespace kumoi::compute
