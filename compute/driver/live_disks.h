// The files of a server that come along by block migration: disks that its guest writes to travel
// with the stream into empty ones; everything else in its folder (images below linked clones,
// kernels, config drive) does not change and is fetched before (migration/transfer). Blocks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/driver/instance_folder.h"
#include "compute/driver/root_disk.h"

namespace kumoi::compute {

struct LiveDisk {
    std::string id;    // in guest.json
    std::string file;  // in the folder
    std::string format;
    std::string backing;  // a file in the folder; empty: none
    std::string backing_format;
    uint64_t size = 0;  // as the guest sees it
    uint64_t allocated = 0;
};

struct LiveDisks {
    std::vector<LiveDisk> disks;
    std::string files;  // ticket of DiskTransfer for the others; empty: there are none

    std::string text() const;
    static Result<LiveDisks> parse(const std::string& text);
    std::vector<std::string> ids() const;
};

// Those that its guest writes to.
Result<std::vector<LiveDisk>> live_disks_of(const InstanceFolder& folder,
                                            const RootDiskOptions& options);
// Names of the files that stay as they are.
Result<std::vector<std::string>> still_files_of(const InstanceFolder& folder,
                                                const std::vector<LiveDisk>& moving);
// Empty ones of the same sizes, with their backing files, which must be there.
// What the guest has written on its console so far, for the folder it moves to: a copy, for the
// file itself goes on growing. Nothing where it has written nothing.
Result<void> copy_console_log(const InstanceFolder& from, const std::string& to);
// The copy's name in a server's folder, while it waits to be fetched.
std::string moved_console_log(const InstanceFolder& folder);

Result<void> make_empty_disks(const InstanceFolder& folder, const std::vector<LiveDisk>& disks,
                              const RootDiskOptions& options);

}  // namespace kumoi::compute
