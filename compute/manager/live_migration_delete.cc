#include "compute/manager/live_migration_records.h"
#include "compute/manager/live_migration_tasks.h"
#include "compute/manager/live_migrations.h"
#include "compute/manager/terminate_task.h"

namespace kumoi::compute {

Result<void> terminate_where_it_is(NodeServices& services, const Operation& operation,
                                   bool may_have_left) {
    if (may_have_left) {
        (void)services.conductor.instance_get(operation.uuid);  // as the request saw it
    }
    const auto instance = services.conductor.instance_get(operation.uuid);
    if (!instance.ok()) {
        return TerminateTask(services, operation).execute();
    }
    if (!instance->host.empty() && instance->host != services.options.host) {
        return services.live->terminate_instance(operation.context, operation.uuid, instance->host);
    }
    if (services.migrations->is_undecided(operation.uuid)) {
        const auto owner = services.driver.live_migration_outcome(*instance);
        if (!owner.ok() || *owner == GuestOwner::Undecided) {
            return Error::conflict(
                       "Nobody can tell yet on which host the guest of server {} is: its live "
                       "migration is not decided",
                       operation.uuid)
                .with_hint("Delete it when the other host answers again.")
                .with_fault("InstanceInvalidState");
        }
    }
    return TerminateTask(services, operation).execute();
}

}  // namespace kumoi::compute
