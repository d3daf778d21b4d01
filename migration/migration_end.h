// What both ends of a migration tell and ask: their status, and what comes over the control socket.
#pragma once

#include <functional>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/vmm_migration.h"
#include "migration/migration_request.h"

namespace kumoi::migration {

enum class Phase {
    Connecting,  // the other side looks at what is coming
    Copying,
    Switching,  // the guest stands still
    PostCopy,   // it runs there, its memory is still coming
    Waiting,    // for the other side's word
    Undecided,  // the same, without a connection: until there is a new one, or a verdict
    Completed,  // end: it runs on the destination
    Failed,     // end: it runs, or stands, on the source
    Cancelled,  // end: the same, as it was asked for
    Superseded  // end: somebody took the disks by force; it never runs here again
};
std::string_view to_string(Phase phase);
DiskTake disk_take(hypervisor::MigrationPort::DiskTake take);

class MigrationEnd {
public:
    // On the loop's thread.
    struct Events {
        std::function<void(const Json& status)> changed;
        std::function<void()> finish;  // destination: this process is of no use any more
    };

    virtual ~MigrationEnd() = default;
    virtual Json status() const = 0;
    virtual bool ended() const = 0;
    virtual Result<void> reconnect(std::vector<std::unique_ptr<StreamSocket>> sockets) = 0;
    virtual Result<void> verdict(const VerdictRequest& request) = 0;
    virtual Result<void> cancel() = 0;
    virtual Result<void> force(const std::string& how) = 0;
};

}  // namespace kumoi::migration
