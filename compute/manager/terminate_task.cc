#include "compute/manager/terminate_task.h"

#include "compute/manager/unsettled.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

Result<void> TerminateTask::execute() {
    auto result = [this]() -> Result<void> {
        TRY(load_instance());
        TRY(destroy_guest());
        TRY(release_networks());
        release_all_volumes();
        return record_deletion();
    }();
    if (!result.ok()) {
        rollback();
    }
    return result;
}

void TerminateTask::rollback() {
    set_error_state(services_, operation_.uuid);
}

Result<void> TerminateTask::load_instance() {
    auto instance = services_.conductor.instance_get(operation_.uuid);
    if (instance.ok()) {
        instance_ = std::move(*instance);
        return {};
    }
    if (!is_instance_gone(instance.error()) && instance.error().code != ErrorCode::NotFound) {
        return instance.error();
    }
    recorded_ = false;  // its traces on this host go all the same
    instance_.uuid = operation_.uuid;
    return {};
}

Result<void> TerminateTask::destroy_guest() {
    services_.journal.step(operation_.journal_id, "destroy");
    return services_.driver.destroy(instance_);
}

Result<void> TerminateTask::release_networks() {
    services_.journal.step(operation_.journal_id, "networks");
    if (instance_.network_info.empty()) {
        auto known = services_.network.network_info(instance_.uuid);
        instance_.network_info = known.ok() ? std::move(*known) : std::vector<VifInfo>();
    }
    TRY(unplug_all(services_, instance_));
    return services_.network.deallocate_for_instance(operation_.context, instance_);
}

void TerminateTask::release_all_volumes() {
    services_.journal.step(operation_.journal_id, "volumes");
    release_volumes(services_, operation_.context, instance_, true);
    if (!recorded_) {  // its volumes' records went with it
        undo_or_retry(delete_attachments(services_, operation_.context, instance_.uuid),
                      "attachments of a deleted server stay");
    }
}

Result<void> TerminateTask::record_deletion() {
    services_.journal.step(operation_.journal_id, "records");
    services_.tracker.release(instance_.uuid);
    if (!recorded_) {
        return {};
    }
    InstanceUpdate update;
    update.vm_state = vm_states::kDeleted;
    update.task_state = std::optional<std::string>();
    update.power_state = power_states::kNoState;
    update.terminated_ns = services_.clock.wall_ns();
    auto saved = services_.conductor.instance_save(instance_.uuid, update);
    if (!saved.ok()) {
        return is_instance_gone(saved.error()) ? Result<void>() : saved;
    }
    auto destroyed = services_.conductor.instance_destroy(instance_.uuid);
    if (!destroyed.ok() && !is_instance_gone(destroyed.error())) {
        return destroyed;
    }
    return {};
}

}  // namespace kumoi::compute
