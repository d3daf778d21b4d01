// HostMoves: what the control plane tells hosts about servers that go from one to another, in the
// words of Nova's compute RPC API. Only a cloud of several nodes has it (api/cluster, over
// RabbitMQ); each request goes to the host that the migration's record names. Any thread; calls
// block until that host answered, casts until the broker has the message.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "compute/conductor/migration_store.h"
#include "compute/manager/conductor_api.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct LiveMigrateServer {
    RequestContext context;
    std::string uuid;
    std::optional<std::string> host;      // none: chosen
    std::optional<bool> block_migration;  // none: whichever the hosts can
    bool disk_over_commit = false;
    bool waits = false;  // the answer says how the checks went
};

struct EvacuateServer {
    RequestContext context;
    std::string uuid;
    std::optional<std::string> host;  // none: chosen
    std::string admin_password;
    std::optional<bool> on_shared_storage;  // none: the hosts find out
    bool leave_stopped = false;
};

class HostMoves {
public:
    virtual ~HostMoves() = default;

    // Call to the destination, which asks the source. Answers with migrate_data, which means
    // something to the hosts alone. Errors in Nova's words (MigrationPreCheckError, ...).
    virtual Result<Json> check_can_live_migrate_destination(
        const RequestContext& context, const Instance& instance, const MigrationRecord& migration,
        const std::optional<bool>& block_migration, bool disk_over_commit) = 0;
    // Casts to the source.
    virtual Result<void> live_migration(const RequestContext& context, const Instance& instance,
                                        const MigrationRecord& migration,
                                        const Json& migrate_data) = 0;
    virtual Result<void> live_migration_abort(const RequestContext& context,
                                              const Instance& instance,
                                              const MigrationRecord& migration) = 0;
    virtual Result<void> live_migration_force_complete(const RequestContext& context,
                                                       const Instance& instance,
                                                       const MigrationRecord& migration) = 0;

    // Resize and cold migration: prep and revert go to the destination, confirm to the source.
    virtual Result<void> prep_resize(const RequestContext& context, const Instance& instance,
                                     const MigrationRecord& migration, const Flavor& flavor) = 0;
    virtual Result<void> confirm_resize(const RequestContext& context, const Instance& instance,
                                        const MigrationRecord& migration) = 0;
    virtual Result<void> revert_resize(const RequestContext& context, const Instance& instance,
                                       const MigrationRecord& migration) = 0;
    // To the destination.
    virtual Result<void> evacuate(const EvacuateServer& request, const Instance& instance,
                                  const MigrationRecord& migration) = 0;
};

}  // namespace kumoi::compute
