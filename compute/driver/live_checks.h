// Whether a server can be migrated live from this host to another, decided before a byte is sent:
// what the destination tells of itself (facts), and every reason why not. As Nova's libvirt driver
// decides about shared folders and block migration. Values; no I/O.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/driver/live_migration.h"

namespace kumoi::compute {

struct LiveFacts {
    std::string host;
    std::string version;  // of kumoi
    std::vector<std::string> boards;
    std::string cpu_model;                // [kumoi] cpu_model
    std::vector<std::string> cpu_masked;  // and cpu_features_masked
    Json cpu_info;                        // Nova's, of the host
    std::string vhost_net;
    std::string probe;  // a file in its folder of servers
    int64_t disk_available_mb = 0;

    std::string text() const;
    // MigrationPreCheckError: this is no kumoi host, or one that speaks otherwise.
    static Result<LiveFacts> parse(const std::string& text);
};

// What has to be said about the server for the check.
struct LiveSubject {
    bool running = false;  // a kumoi-vmm process has its guest
    bool rescued = false;
    bool has_local_disks = false;  // in its folder, that the guest writes
    int64_t disk_needed_mb = 0;    // as they are on the disk
    int64_t disk_virtual_mb = 0;   // as they may become
    std::string board = "kumoi-1";
    bool sees_probe = false;
};

// Every reason why the guest of `here` cannot run there; empty: none.
std::vector<std::string> live_obstacles(const LiveFacts& here, const LiveFacts& there,
                                        const LiveSubject& subject);
// InvalidLocalStorage, InvalidSharedStorage: what was asked for does not fit.
Result<LiveMigrationPlan> plan_live_migration(const LiveMigrationQuestion& question,
                                              const LiveSubject& subject);
// Bytes that block migration needs there; a reason, or nothing.
std::vector<std::string> live_disk_obstacles(const LiveMigrationQuestion& question,
                                             const LiveMigrationPlan& plan, const LiveFacts& there,
                                             const LiveSubject& subject);

}  // namespace kumoi::compute
