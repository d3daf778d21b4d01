// Leases of a server's disks (docs/reference/disk-lease.md): where hosts share the folders of
// servers, each disk's lock in guest.json names a lease beside it, so that a guest that another
// host has taken over cannot write any more, and a handover hands an epoch over. The process
// writes leases; this decides when it has one, and under which epoch it starts. Blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/config.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/driver/instance_folder.h"

namespace kumoi::compute {

struct DiskLeaseNote {
    uint64_t epoch = 0;
    bool held = false;
    std::string owner;
};

// Nothing: there is none, or nobody ever held it. Error: it cannot be read, or no record is valid.
Result<std::optional<DiskLeaseNote>> read_disk_lease(const std::string& path);
std::string disk_lease_path(const InstanceFolder& folder, const std::string& disk_id);
bool is_disk_lease(const std::string& file_name);
// The highest that the leases in a server's folder show. Nothing: there are none.
Result<std::optional<uint64_t>> highest_lease_epoch(const InstanceFolder& folder);

// Of every file system that several hosts can have mounted.
bool is_shared_file_system(const std::string& path);

class DiskLeases {
public:
    enum class Use { Automatic, Always, Never };  // Automatic: on a shared file system

    static void add_options(OptionTable& table);
    static Result<DiskLeases> from_config(const Config& config, const std::string& instances_path);
    DiskLeases() = default;  // never
    DiskLeases(bool wanted, std::string owner) : wanted_(wanted), owner_(std::move(owner)) {}

    bool wanted() const { return wanted_; }
    // Before a process is started from `folder`, or told of a disk: under which epoch. Another
    // host's lease that was never given back is one that the cloud has taken the server from:
    // the epoch rises, and what still runs there cannot write any more.
    Result<void> claim(const InstanceFolder& folder) const;
    // The `lock` of each disk in `guest` that is written to. Nothing where leases are not wanted.
    void add_locks(Json& guest, const InstanceFolder& folder) const;
    // For a process that waits for a guest: just of those that the source holds under `epoch`.
    void add_held_locks(Json& guest, const InstanceFolder& folder, uint64_t epoch) const;

private:
    void add_lock(Json& disk, const InstanceFolder& folder, uint64_t epoch) const;

    bool wanted_ = false;
    std::string owner_;
};

}  // namespace kumoi::compute
