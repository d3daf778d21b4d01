// What a configuration says of a disk's format and lock. Plain values.
#pragma once

#include <cstdint>
#include <string>

namespace kumoi::hypervisor {

enum class DiskFormat { Raw, Qcow2 };

// Who writes the disk, across hosts (disk_lease.h).
struct DiskLock {
    std::string lease;  // path; empty: only the OFD lock of this host
    uint64_t epoch = 0;
    std::string owner;
};

}  // namespace kumoi::hypervisor
