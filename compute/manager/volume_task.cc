#include "compute/manager/volume_task.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "compute/instance_properties.h"
#include "compute/manager/cloud_records.h"
#include "compute/manager/device_metadata.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/volume_api.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr std::string_view kStep = "volumes ";  // then their ids, in a journal's step

Error no_volumes() {
    return Error::unsupported("This cloud has no volumes").with_fault("VolumeDriverNotSupported");
}

Error not_attached(const std::string& uuid, const std::string& volume_id) {
    return Error::not_found("Volume {} is not attached to server {}", volume_id, uuid)
        .with_fault("VolumeBDMNotFound");
}

Result<BlockDevice> find_device(NodeServices& services, const RequestContext& context,
                                const std::string& uuid, const std::string& volume_id) {
    for (BlockDevice& device : TRY(volumes_of(services, context, uuid))) {
        if (device.volume_id == volume_id) {
            return std::move(device);
        }
    }
    return not_attached(uuid, volume_id);
}

bool is_not_attached(const Error& error) {
    return error.fault == "VolumeBDMNotFound";
}

void journal_volumes(NodeServices& services, const Operation& operation,
                     const std::vector<std::string>& ids) {
    std::string step(kStep);
    for (const std::string& id : ids) {
        step += id + " ";
    }
    services.journal.step(operation.journal_id, step);
}

Result<void> check_bus(const std::string& bus) {
    if (bus.empty() || bus == "virtio" || bus == "scsi") {
        return {};
    }
    return Error::unsupported("Disk bus '{}' is not offered here", bus)
        .with_hint("Use virtio or scsi.")
        .with_fault("InvalidBDMDiskBus");
}

void tell_start(NodeServices& services, const Operation& operation, const VolumeNews& news) {
    if (services.cloud != nullptr) {
        services.cloud->volume_started(operation.context, operation.uuid, news);
    }
}

void tell_end(NodeServices& services, const Operation& operation, const VolumeNews& news,
              const Result<void>& result) {
    if (services.cloud != nullptr) {
        services.cloud->volume_ended(operation.context, operation.uuid, news, result);
    }
}

}  // namespace

std::vector<std::string> journaled_volumes(const std::vector<std::string>& steps) {
    std::vector<std::string> ids;
    for (const std::string& step : steps) {
        if (!step.starts_with(kStep)) {
            continue;
        }
        size_t begin = kStep.size();
        for (size_t end = step.find(' ', begin); end != std::string::npos;
             begin = end + 1, end = step.find(' ', begin)) {
            ids.push_back(step.substr(begin, end - begin));
        }
    }
    return ids;
}

std::string device_prefix(const Instance& instance) {
    return uses_scsi_disks(instance.image.properties) ? "/dev/sd" : "/dev/vd";
}

// As Nova's: "a" is the root disk's, whether or not its record says so.
std::string next_device_name(const Instance& instance, const std::vector<BlockDevice>& devices) {
    const std::string prefix = device_prefix(instance);
    std::set<std::string> used = {"a"};
    for (const BlockDevice& device : devices) {
        if (device.device_name.size() > prefix.size()) {
            used.insert(device.device_name.substr(prefix.size()));
        }
    }
    char extra = 'a';
    for (const bool there : {instance.flavor.ephemeral_gb > 0, instance.flavor.swap_mb > 0}) {
        if (there) {
            used.insert(std::string(1, ++extra));
        }
    }
    for (const std::string head : {"", "a"}) {
        for (char letter = 'a'; letter <= 'z'; ++letter) {
            if (!used.contains(head + letter)) {
                return prefix + head + letter;
            }
        }
    }
    return "";
}

Result<BlockDevice> reserve_device(NodeServices& services, const ReserveDeviceRequest& request) {
    if (services.volumes == nullptr) {
        return no_volumes();
    }
    TRY(check_bus(request.disk_bus));
    const Instance instance = TRY(services.conductor.instance_get(request.uuid));
    const auto devices =
        TRY(services.volumes->records.block_devices(request.context, request.uuid));
    BlockDevice device;
    device.instance_uuid = request.uuid;
    device.source_type = device.destination_type = "volume";
    device.volume_id = request.volume_id;
    device.device_name = request.device_name;
    device.disk_bus = request.disk_bus;
    device.device_type = request.device_type;
    device.tag = request.tag;
    for (const BlockDevice& other : devices) {
        if (!other.volume_id.empty() && other.volume_id == request.volume_id) {
            return Error::conflict("Invalid volume: Volume {} is already attached to instance {}",
                                   request.volume_id, request.uuid)
                .with_fault("InvalidVolume");
        }
        if (!request.device_name.empty() && other.device_name == request.device_name) {
            return Error::conflict("The supplied device path ({}) is in use.", request.device_name)
                .with_fault("DevicePathInUse");
        }
    }
    if (device.device_name.empty()) {
        device.device_name = next_device_name(instance, devices);
    }
    if (device.device_name.empty()) {
        return Error::exhausted("Server {} has as many disks as there are names", request.uuid)
            .with_fault("TooManyDiskDevices");
    }
    return services.volumes->records.block_device_create(request.context, device);
}

Result<void> AttachVolumeTask::execute(const BlockDevice& device) {
    if (services_.volumes == nullptr) {
        return no_volumes();
    }
    device_ = device;
    journal_volumes(services_, operation_, {device.volume_id});
    const VolumeNews news{VolumeNews::Action::Attach, device.volume_id};
    tell_start(services_, operation_, news);
    auto attached = attach();
    tell_end(services_, operation_, news, attached);
    if (!attached.ok()) {
        if (!is_taken_over(attached.error())) {
            record_fault(services_, operation_.uuid, attached.error());
        }
        rollback();
    }
    return attached;
}

Result<void> AttachVolumeTask::attach() {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    if (instance_.task_state == task_states::kDeleting) {
        return Error::conflict("Server {} is being deleted", instance_.uuid)
            .with_fault("UnexpectedDeletingTaskStateError");
    }
    const VolumeDisk disk =
        TRY_CONTEXT(connect_volume(services_, operation_.context, instance_, device_),
                    "Failed to attach volume {} at {}", device_.volume_id, device_.device_name);
    services_.journal.step(operation_.journal_id, "attach");
    auto attached = services_.driver.attach_volume(instance_, disk);
    if (!attached.ok()) {
        Error error = std::move(attached).error().with_context(fmt::format(
            "Failed to attach volume {} at {}", device_.volume_id, device_.device_name));
        return error.fault.empty() ? std::move(error).with_fault("VolumeAttachFailed") : error;
    }
    services_.journal.step(operation_.journal_id, "complete");
    TRY(services_.volumes->volumes.complete_attachment(operation_.context, device_.attachment_id));
    renew_tagged_devices(services_, operation_.context, instance_.uuid, device_.tag);
    return {};
}

// In this order a crash on the way leaves the record, which says what is left to do.
void AttachVolumeTask::rollback() {
    VolumeServices& volumes = *services_.volumes;
    services_.journal.step(operation_.journal_id, "rollback");
    if (instance_.uuid.empty()) {
        instance_.uuid = operation_.uuid;
    }
    const auto undo = [&]() -> Result<void> {
        TRY(services_.driver.detach_volume(instance_, device_.volume_id));
        TRY(volumes.host.disconnect(operation_.uuid, device_.volume_id));
        if (!device_.attachment_id.empty()) {
            TRY(volumes.volumes.delete_attachment(operation_.context, device_.attachment_id));
        }
        return volumes.records.block_device_destroy(operation_.context, device_);
    };
    undo_or_retry(undo(), "something of a volume that was not attached stays");
}

Result<void> AttachVolumeTask::finish_after_restart(const std::string& volume_id, bool undone) {
    auto device = find_device(services_, operation_.context, operation_.uuid, volume_id);
    if (device.ok() && !undone) {
        return execute(*device);
    }
    if (device.ok()) {
        device_ = std::move(*device);
        rollback();
        return {};
    }
    if (!is_not_attached(device.error())) {
        return device.error();
    }
    device_.volume_id = volume_id;
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    TRY(services_.driver.detach_volume(instance_, volume_id));
    return services_.volumes->host.disconnect(operation_.uuid, volume_id);
}

Result<void> detach_volume_task(NodeServices& services, const Operation& operation,
                                const std::string& volume_id, const std::string& attachment_id) {
    if (services.volumes == nullptr) {
        return no_volumes();
    }
    VolumeServices& volumes = *services.volumes;
    const RequestContext& context = operation.context;
    journal_volumes(services, operation, {volume_id});
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    const BlockDevice device = TRY(find_device(services, context, operation.uuid, volume_id));
    const std::string attachment = attachment_id.empty() ? device.attachment_id : attachment_id;
    const VolumeNews news{VolumeNews::Action::Detach, volume_id};
    tell_start(services, operation, news);
    services.journal.step(operation.journal_id, "detach");
    auto detached = services.driver.detach_volume(instance, volume_id);
    if (!detached.ok()) {
        undo_or_retry(volumes.volumes.roll_detaching(context, volume_id),
                      "a volume that stays attached still counts as detaching");
        record_fault(services, operation.uuid, detached.error());
        tell_end(services, operation, news, detached);
        return detached;
    }
    auto result = [&]() -> Result<void> {
        TRY(volumes.host.disconnect(operation.uuid, volume_id));
        services.journal.step(operation.journal_id, "delete");
        if (!attachment.empty()) {
            TRY(volumes.volumes.delete_attachment(context, attachment));
        }
        TRY(volumes.records.block_device_destroy(context, device));
        renew_tagged_devices(services, context, operation.uuid, device.tag);
        return {};
    }();
    if (!result.ok()) {
        record_fault(services, operation.uuid, result.error());
        UnsettledOperations::note_doubt();  // it has left the guest: the rest follows later
    }
    tell_end(services, operation, news, result);
    return result;
}

Result<void> SwapVolumeTask::load(const std::string& volume_id) {
    instance_ = TRY(services_.conductor.instance_get(operation_.uuid));
    device_ = TRY(find_device(services_, operation_.context, operation_.uuid, volume_id));
    return {};
}

Result<void> SwapVolumeTask::execute() {
    if (services_.volumes == nullptr) {
        return no_volumes();
    }
    journal_volumes(services_, operation_,
                    {request_.old_volume_id, request_.new_volume_id, request_.new_attachment_id});
    const VolumeNews news{VolumeNews::Action::Swap, request_.old_volume_id, request_.new_volume_id};
    tell_start(services_, operation_, news);
    auto result = [&]() -> Result<void> {
        TRY(load(request_.old_volume_id));
        return copy();
    }();
    if (result.ok()) {
        result = record();
        if (!result.ok()) {
            UnsettledOperations::note_doubt();  // forward is the only way
        }
    } else {
        rollback();
    }
    if (!result.ok()) {
        record_fault(services_, operation_.uuid, result.error());
    }
    tell_end(services_, operation_, news, result);
    return result;
}

Result<void> SwapVolumeTask::copy() {
    VolumeServices& volumes = *services_.volumes;
    const VolumeRecord now =
        TRY(volumes.volumes.volume(operation_.context, request_.new_volume_id));
    if (now.encrypted) {
        return Error::unsupported("Volume encryption is not supported for volume {}", now.id)
            .with_fault("VolumeEncryptionNotSupported");
    }
    Json connector = TRY(volumes.host.connector());
    connector.set("mountpoint", device_.device_name);
    const auto attachment = TRY(volumes.volumes.update_attachment(
        operation_.context, request_.new_attachment_id, connector));
    connection_info_ = attachment.connection_info;
    connection_info_.set("serial", request_.new_volume_id);
    device_.volume_size = now.size_gb;
    services_.journal.step(operation_.journal_id, "copy");
    TRY_CONTEXT(volumes.host.swap(operation_.uuid, request_.old_volume_id, request_.new_volume_id,
                                  connection_info_),
                "copying volume {} to {}", request_.old_volume_id, request_.new_volume_id);
    return {};
}

// From here on the guest uses the new one: there is no way back.
Result<void> SwapVolumeTask::record() {
    VolumeServices& volumes = *services_.volumes;
    const RequestContext& context = operation_.context;
    services_.journal.step(operation_.journal_id, "record");
    const auto old = volumes.volumes.volume(context, request_.old_volume_id);
    std::string volume_id = request_.new_volume_id;
    if (old.ok() && old->migration_status == "migrating") {
        volume_id = TRY(volumes.volumes.complete_migration(context, request_.old_volume_id,
                                                           request_.new_volume_id, false));
    }
    const std::string old_attachment = device_.attachment_id;
    device_.attachment_id = request_.new_attachment_id;
    device_.connection_info = connection_info_;
    device_.connection_info.set("serial", volume_id);
    device_.volume_id = volume_id;
    device_.snapshot_id.clear();
    TRY(services_.driver.rename_volume(instance_, request_.old_volume_id, volume_id));
    if (volume_id != request_.new_volume_id) {
        TRY(volumes.host.rename(operation_.uuid, request_.new_volume_id, volume_id));
    }
    TRY(volumes.records.block_device_save(context, device_));
    TRY(volumes.volumes.complete_attachment(context, request_.new_attachment_id));
    renew_tagged_devices(services_, context, operation_.uuid, device_.tag);
    if (!old_attachment.empty() && old_attachment != request_.new_attachment_id) {
        TRY(volumes.volumes.delete_attachment(context, old_attachment));
    }
    return {};
}

void SwapVolumeTask::rollback() {
    VolumeServices& volumes = *services_.volumes;
    services_.journal.step(operation_.journal_id, "rollback");
    undo_or_retry(volumes.volumes.roll_detaching(operation_.context, request_.old_volume_id),
                  "a volume that was not swapped still counts as detaching");
    undo_or_retry(volumes.volumes.delete_attachment(operation_.context, request_.new_attachment_id),
                  "the attachment of a volume that was not swapped in stays");
    const auto old = volumes.volumes.volume(operation_.context, request_.old_volume_id);
    if (old.ok() && old->migration_status == "migrating") {
        const auto told = volumes.volumes.complete_migration(
            operation_.context, request_.old_volume_id, request_.new_volume_id, true);
        if (!told.ok()) {
            log_warn("compute", "Cinder was not told that a migration failed",
                     {{"why", told.error().text()}});
        }
    }
}

Result<void> SwapVolumeTask::finish_after_restart() {
    VolumeServices& volumes = *services_.volumes;
    const RequestContext& context = operation_.context;
    auto loaded = load(request_.old_volume_id);
    if (!loaded.ok() && is_not_attached(loaded.error())) {
        loaded = load(request_.new_volume_id);
    }
    if (!loaded.ok()) {
        return is_not_attached(loaded.error()) ? Result<void>() : loaded;
    }
    if (device_.attachment_id == request_.new_attachment_id) {  // recorded, and no more
        TRY(volumes.volumes.complete_attachment(context, request_.new_attachment_id));
        return delete_unrecorded_attachments(services_, context, operation_.uuid);
    }
    if (!volumes.host.connected().contains({operation_.uuid, request_.new_volume_id})) {
        rollback();
        return Error::unavailable("The node was restarted while it swapped a volume")
            .with_hint("Swap it again.");
    }
    for (const auto& attachment : TRY(volumes.volumes.attachments(context, operation_.uuid))) {
        if (attachment.id == request_.new_attachment_id) {
            connection_info_ = attachment.connection_info;
        }
    }
    return record();
}

Result<void> extend_volume_task(NodeServices& services, const Operation& operation,
                                const std::string& volume_id) {
    if (services.volumes == nullptr) {
        return no_volumes();
    }
    const RequestContext& context = operation.context;
    const std::string& uuid = operation.uuid;
    journal_volumes(services, operation, {volume_id});
    auto found = find_device(services, context, uuid, volume_id);
    if (!found.ok()) {
        return found.error();
    }
    BlockDevice device = std::move(*found);
    const VolumeRecord volume = TRY(services.volumes->volumes.volume(context, volume_id));
    const uint64_t bytes = static_cast<uint64_t>(volume.size_gb) << 30;
    auto extended = services.volumes->host.extend(uuid, volume_id, bytes);
    if (!extended.ok()) {
        Error error = std::move(extended).error().with_fault("VolumeExtendFailed");
        record_fault(services, uuid, error);
        return error;
    }
    device.volume_size = volume.size_gb;
    return services.volumes->records.block_device_save(context, device);
}

Result<void> remove_volume_connection_task(NodeServices& services, const RequestContext& context,
                                           const std::string& uuid, const std::string& volume_id,
                                           bool delete_attachment) {
    if (services.volumes == nullptr) {
        return {};
    }
    TRY(services.volumes->host.disconnect(uuid, volume_id));
    if (!delete_attachment) {
        return {};
    }
    const auto device = find_device(services, context, uuid, volume_id);
    if (!device.ok()) {
        return is_not_attached(device.error()) ? Result<void>() : Result<void>(device.error());
    }
    return services.volumes->volumes.delete_attachment(context, device->attachment_id);
}

Result<void> volume_restarted_task(NodeServices& services, const std::string& uuid,
                                   const std::string& volume_id) {
    Instance instance;
    instance.uuid = uuid;
    return services.driver.reconnect_volume(instance, volume_id);
}

}  // namespace kumoi::compute
