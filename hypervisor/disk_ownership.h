// DiskOwnership: the disks of a machine that another host can have, too: locked, taken with their
// leases and given free together, all or none. What a handover asks for (migration/handover).
//
// On the control thread, the vCPUs parked and the devices paused.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "hypervisor/block/late_disk.h"

namespace kumoi::hypervisor {

enum class DiskTake {
    Taken,
    Busy,        // somebody else holds a lock: try again
    Superseded,  // a lease names an epoch that was not expected
    Failed,      // cannot be read or written: try again
};

class DiskOwnership {
public:
    using Disks = std::vector<std::pair<std::string, LateDisk*>>;  // by id
    explicit DiskOwnership(std::function<Disks()> disks) : disks_(std::move(disks)) {}

    // These are this host's own and stay open (their contents move with the guest): opened now
    // where they are not. NotFound: there is none of that name.
    Result<void> set_own(const std::vector<std::string>& ids);
    // Opens and locks all, and compares their leases. Those in use stay so.
    DiskTake hold(uint64_t epoch);
    // Holds them where that has not happened, writes their leases and puts them to use. Each lease
    // must show `before`, `peer` or already `after`, written by us.
    DiskTake take(uint64_t before, uint64_t peer, uint64_t after);
    Result<void> sync();      // what was written to any is durable
    void write_back() const;  // what drop() would wait for, as far as it is there now
    // Error: not everything that was written is durable. They are free all the same.
    Result<void> drop();
    // Why one could not be had again once it was dropped: no error: all can, at this epoch.
    Result<void> may_drop(uint64_t epoch) const;
    // Who takes them next is on this host: drop() leaves to the page cache what the guest does.
    void set_same_host(bool same) { same_host_ = same; }
    const std::optional<Error>& error() const { return error_; }  // why the last one was not Taken

private:
    Disks shared() const;
    DiskTake hold_all(const Disks& disks);
    DiskTake compare(const Disks& disks, const std::vector<uint64_t>& accepted);
    DiskTake failed(const std::string& id, const Error& error, DiskTake conflict);

    const std::function<Disks()> disks_;
    std::set<std::string> own_;
    bool same_host_ = false;
    std::optional<Error> error_;
};

}  // namespace kumoi::hypervisor
