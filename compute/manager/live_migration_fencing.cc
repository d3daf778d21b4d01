#include "compute/manager/live_migration_fencing.h"

#include "base/log.h"
#include "compute/driver/migration_fence.h"
#include "compute/manager/live_migration_records.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/volume_connections.h"

namespace kumoi::compute {
namespace {

bool is_fenced(NodeServices& services, const std::string& host) {
    const auto fenced = services.live->is_fenced(host);
    return fenced.ok() && *fenced;
}

}  // namespace

Result<GuestOwner> outcome_with_fencing(NodeServices& services, const Instance& instance,
                                        const std::string& other) {
    const GuestOwner owner = TRY(services.driver.live_migration_outcome(instance));
    if (owner != GuestOwner::Undecided || other.empty() || other == services.options.host ||
        !is_fenced(services, other)) {
        return owner;
    }
    auto* fence = dynamic_cast<MigrationFence*>(&services.driver);  // few drivers have one
    if (fence == nullptr) {
        return owner;
    }
    log_warn("compute", "an undecided live migration is settled without its other host",
             {{"server", instance.uuid}, {"forced_down", other}});
    TRY(fence->fence_live_migration(instance));
    return services.driver.live_migration_outcome(instance);
}

void close_for_fenced_source(NodeServices& services, const Operation& operation,
                             const std::string& source) {
    const auto migration = services.live->live_migration(operation.uuid);
    if (!migration.ok() || is_over(migration->status) || source == services.options.host ||
        !is_fenced(services, source)) {
        return;
    }
    undo_or_retry(services.conductor.migration_save(operation.uuid, "completed"),
                  "the end of a live migration was not recorded");
    undo_or_retry(services.live->drop_allocations(operation.uuid),
                  "the allocation of a live migration was not removed");
    if (services.volumes != nullptr) {
        undo_or_retry(delete_unrecorded_attachments(services, operation.context, operation.uuid),
                      "the attachment of a volume to a host that is off was not deleted");
    }
}

}  // namespace kumoi::compute
