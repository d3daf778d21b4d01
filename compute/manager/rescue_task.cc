#include "compute/manager/rescue_task.h"

#include "base/log.h"
#include "compute/manager/power_tasks.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

Result<void> RescueTask::execute() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    auto result = run_steps();
    if (!result.ok() && !is_taken_over(result.error())) {
        rollback();
        return std::move(result)
            .error()
            .with_context(fmt::format("Instance {} cannot be rescued", instance_.uuid))
            .with_fault("InstanceNotRescuable");
    }
    return result;
}

Result<void> RescueTask::run_steps() {
    const std::string& wanted = instance_.task_arguments.image_id;
    const ImageMeta image = TRY(
        services_.images.show(operation_.context, wanted.empty() ? instance_.image_id : wanted));
    instance_.network_info = TRY(plug_all(services_, instance_));
    services_.journal.step(operation_.journal_id, "power_off");
    if (power_state_of(services_.driver, instance_) == power_states::kRunning) {
        TRY(services_.driver.power_off(instance_,
                                       shutdown_timeout_of(instance_, services_.options, true)));
    }
    services_.journal.step(operation_.journal_id, "rescue");
    TRY(connect_volumes(services_, operation_.context, instance_));
    TRY(services_.driver.rescue({operation_.context, instance_, image, admin_password_}));
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kRescuing});
    update.vm_state = vm_states::kRescued;
    update.power_state = power_state_of(services_.driver, instance_);
    update.launched_ns = services_.clock.wall_ns();
    update.network_info = instance_.network_info;
    return services_.conductor.instance_save(instance_.uuid, update);
}

void RescueTask::rollback() {
    services_.journal.step(operation_.journal_id, "rollback");
    const bool was_on = instance_.task_arguments.old_vm_state == vm_states::kActive;
    const auto back = services_.driver.unrescue(instance_, was_on);
    if (!back.ok()) {
        log_error("compute", "a failed rescue could not be undone", {{"why", back.error().text()}});
        set_error_state(services_, instance_.uuid);
        return;
    }
    InstanceUpdate update;
    update.power_state = power_state_of(services_.driver, instance_);
    const auto saved = services_.conductor.instance_save(instance_.uuid, update);
    if (!saved.ok()) {
        log_warn("compute", "the power state was not recorded", {{"why", saved.error().text()}});
    }
}

Result<void> unrescue_task(NodeServices& services, const Operation& operation) {
    Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    instance.network_info = TRY(plug_all(services, instance));
    services.journal.step(operation.journal_id, "unrescue");
    TRY(connect_volumes(services, operation.context, instance));
    auto back = services.driver.unrescue(instance, true);
    if (!back.ok()) {
        set_error_state(services, instance.uuid);
        return back;
    }
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kUnrescuing});
    update.vm_state = vm_states::kActive;
    update.power_state = power_state_of(services.driver, instance);
    update.network_info = instance.network_info;
    return services.conductor.instance_save(instance.uuid, update);
}

}  // namespace kumoi::compute
