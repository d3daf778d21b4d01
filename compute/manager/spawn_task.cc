#include "compute/manager/spawn_task.h"

#include <algorithm>
#include <array>

#include "base/log.h"
#include "compute/instance_properties.h"
#include "compute/manager/block_device_build.h"
#include "compute/manager/cloud_records.h"
#include "compute/manager/device_metadata.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/vif_plugging.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

using TaskState = std::optional<std::string>;

// Nova's exceptions after which no other host can do better.
constexpr std::array<std::string_view, 20> kAbortFaults = {
    "BuildAbortException",
    "NoMoreFixedIps",
    "NoMoreNetworks",
    "ExternalNetworkAttachForbidden",
    "VirtualInterfaceCreateException",
    "VirtualInterfaceMacAddressException",
    "FixedIpInvalidOnHost",
    "UnableToAutoAllocateNetwork",
    "NetworksWithQoSPolicyNotSupported",
    "FlavorDiskTooSmall",
    "FlavorDiskSmallerThanImage",
    "FlavorMemoryTooSmall",
    "ImageNotActive",
    "ImageNotFound",
    "ImageUnacceptable",
    "InvalidDiskInfo",
    "InvalidDiskFormat",
    "InvalidInput",
    "PortInUse",
    "PortLimitExceeded",
};

// After the traces are gone: hand the server back, or leave it in ERROR with the reason.
void give_up(NodeServices& services, const Operation& operation, const Error& reason) {
    auto recorded =
        services.conductor.fault_create(operation.uuid, fault_from(reason, services.clock));
    if (!recorded.ok()) {
        log_warn("compute", "the fault was not recorded", {{"why", recorded.error().text()}});
    }
    InstanceUpdate update;
    update.vm_state = vm_states::kError;
    update.task_state = TaskState();
    update.power_state = power_states::kNoState;
    update.host = "";
    update.node = "";
    update.network_info = std::vector<VifInfo>();
    const auto saved = services.conductor.instance_save(operation.uuid, update);
    if (!saved.ok() && !is_instance_gone(saved.error())) {
        log_error("compute", "state ERROR was not recorded", {{"why", saved.error().text()}});
    }
}

// Removes guest, devices and ports, each even when another could not be removed.
Result<void> remove_traces(NodeServices& services, const Operation& operation,
                           const Instance& instance) {
    auto destroyed = services.driver.destroy(instance);
    auto unplugged = unplug_all(services, instance);
    auto deallocated = services.network.deallocate_for_instance(operation.context, instance);
    services.tracker.release(instance.uuid);
    for (Result<void>* result : {&destroyed, &unplugged, &deallocated}) {
        if (!result->ok()) {
            return std::move(*result).error();
        }
    }
    return {};
}

}  // namespace

SpawnTask::SpawnTask(NodeServices& services, const BuildRequest& request,
                     const Operation& operation)
    : services_(services), request_(request), operation_(operation), instance_(request.instance) {}

Result<void> SpawnTask::execute() {
    if (services_.tracker.is_tracked(instance_.uuid)) {  // never roll back what already runs here
        return Error::conflict("Server {} is already built on this host", instance_.uuid);
    }
    auto result = run_steps();
    if (!result.ok()) {
        claim_.abort();
        rollback(services_, operation_, instance_, result.error());
    }
    return result;
}

Result<void> SpawnTask::run_steps() {
    TRY(start_building());
    TRY(claim_resources());
    TRY(allocate_networks());
    TRY(prepare_block_devices());
    TRY(plug_interfaces());
    TRY(spawn_guest());
    return mark_active();
}

void SpawnTask::rollback(NodeServices& services, const Operation& operation, Instance instance,
                         const Error& reason) {
    services.journal.step(operation.journal_id, "rollback");
    if (instance.network_info.empty()) {  // ports may exist that nobody got to tell us about
        auto known = services.network.network_info(instance.uuid);
        instance.network_info = known.ok() ? std::move(*known) : std::vector<VifInfo>();
    }
    const auto cleaned = remove_traces(services, operation, instance);
    if (!cleaned.ok()) {
        log_error("compute", "cleaning up a failed build failed; it is tried again",
                  {{"why", cleaned.error().text()}});
        UnsettledOperations::note_doubt();
    }
    const BuildOutcome outcome = classify_build_failure(reason);
    if (outcome == BuildOutcome::Gone) {
        warn_unless_ok(disconnect_volumes(services, instance), "a volume's back end goes on");
        return;
    }
    const bool final = outcome == BuildOutcome::Abort || !cleaned.ok();
    release_volumes(services, operation.context, instance, final);
    if (final) {
        give_up(services, operation, reason);
        return;
    }
    const auto handed_over =
        services.conductor.reschedule_build(operation.context, operation.uuid, reason);
    if (handed_over.ok()) {
        services.journal.step(operation.journal_id, "handed over");
    } else if (!is_instance_gone(handed_over.error())) {
        give_up(services, operation, reason);
    }
}

Result<void> SpawnTask::start_building() {
    InstanceUpdate update = to_task_state(TaskState(), {task_states::kScheduling, TaskState()});
    update.vm_state = vm_states::kBuilding;
    return save(update);
}

Result<void> SpawnTask::claim_resources() {
    claim_ = TRY(services_.tracker.claim(instance_));
    instance_.host = services_.options.host;
    instance_.node = services_.options.host;
    return {};
}

Result<void> SpawnTask::allocate_networks() {
    InstanceUpdate update = to_task_state(task_states::kNetworking, {TaskState()});
    update.host = instance_.host;
    update.node = instance_.node;
    TRY(save(update));
    if (services_.cloud != nullptr) {  // others of its group see it here by now
        TRY(services_.cloud->check_group(operation_.context, instance_.uuid, true));
    }
    services_.journal.step(operation_.journal_id, "networks");
    instance_.network_info = TRY(services_.network.allocate_for_instance(
        operation_.context, instance_, request_.requested_networks));
    tag_vifs(instance_.network_info, request_.requested_networks);
    return {};
}

Result<void> SpawnTask::prepare_block_devices() {
    InstanceUpdate update =
        to_task_state(task_states::kBlockDeviceMapping, {task_states::kNetworking});
    update.network_info = instance_.network_info;
    devices_ = request_.block_devices;
    TRY(record_device_names(services_, operation_.context, instance_, devices_));
    const std::string root = root_device_name(devices_);
    update.root_device_name = root.empty() ? root_device_name(instance_) : root;
    TRY(save(update));
    services_.journal.step(operation_.journal_id, "volumes");
    volumes_ = TRY(build_volumes(services_, operation_, instance_, devices_));
    return {};
}

Result<void> SpawnTask::plug_interfaces() {
    TRY(save(to_task_state(task_states::kSpawning, {task_states::kBlockDeviceMapping})));
    services_.journal.step(operation_.journal_id, "plug");
    instance_.network_info = TRY(plug_and_wait(services_, instance_));
    return {};
}

Result<void> SpawnTask::spawn_guest() {
    const auto tagged =
        TRY(record_tagged_devices(services_, operation_.context, instance_, devices_));
    services_.journal.step(operation_.journal_id, "spawn");
    TRY(services_.driver.spawn(
        {operation_.context, instance_, request_.injected_files, volumes_, tagged}));
    services_.journal.step(operation_.journal_id, "spawned");
    return {};
}

Result<void> SpawnTask::mark_active() {
    TRY(save_active(services_, instance_));
    services_.tracker.set_building(instance_.uuid, false);
    claim_.keep();
    return {};
}

Result<void> SpawnTask::save(const InstanceUpdate& update) const {
    return services_.conductor.instance_save(instance_.uuid, update);
}

BuildOutcome classify_build_failure(const Error& error) {
    if (is_unexpected_task_state(error) || is_instance_gone(error)) {
        return BuildOutcome::Gone;
    }
    if (std::find(kAbortFaults.begin(), kAbortFaults.end(), error.fault) != kAbortFaults.end()) {
        return BuildOutcome::Abort;
    }
    switch (error.code) {
        case ErrorCode::InvalidArgument:
        case ErrorCode::Unsupported:
        case ErrorCode::Corrupt:
        case ErrorCode::TooLarge: return BuildOutcome::Abort;  // the request itself is at fault
        default: return BuildOutcome::Reschedule;
    }
}

Result<void> save_active(NodeServices& services, const Instance& instance) {
    InstanceUpdate update = to_task_state(TaskState(), {task_states::kSpawning});
    update.vm_state = vm_states::kActive;
    update.power_state = power_state_of(services.driver, instance);
    update.launched_ns = services.clock.wall_ns();
    update.network_info = instance.network_info;
    update.progress = 100;
    return services.conductor.instance_save(instance.uuid, update);
}

}  // namespace kumoi::compute
