#include "compute/manager/volume_connections.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "compute/manager/block_device_build.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/volume_api.h"

namespace kumoi::compute {
namespace {

void keep_first(Result<void>& first, Result<void> result) {
    if (first.ok() && !result.ok()) {
        first = std::move(result);
    }
}

// Nova keeps the volume's id as the disk's serial beside what Cinder said.
Json recorded_info(Json info, const VolumeRecord& volume) {
    info.set("serial", volume.id);
    if (volume.multiattach) {
        info.set("multiattach", true);
    }
    return info;
}

Error not_encrypted(const VolumeRecord& volume) {
    return Error::unsupported(
               "Volume encryption is not supported for {} volume {}: this hypervisor has no keys",
               volume.volume_type, volume.id)
        .with_hint("Use a volume type without encryption.")
        .with_fault("VolumeEncryptionNotSupported");
}

bool is_encrypted(const Json& connection_info) {
    const Json* data = connection_info.find("data");
    return data != nullptr && data->bool_or("encrypted");
}

}  // namespace

VolumeDisk volume_disk(const BlockDevice& device, std::string socket) {
    VolumeDisk disk;
    disk.volume_id = device.volume_id;
    disk.socket = std::move(socket);
    disk.bus = device.disk_bus;
    disk.root = device.is_root();
    return disk;
}

Result<std::vector<BlockDevice>> volumes_of(NodeServices& services, const RequestContext& context,
                                            const std::string& uuid) {
    if (services.volumes == nullptr) {
        return std::vector<BlockDevice>();
    }
    auto devices = TRY(services.volumes->records.block_devices(context, uuid));
    std::erase_if(devices, [](const BlockDevice& device) {
        return !device.is_volume() || device.volume_id.empty();
    });
    return devices;
}

Result<void> connect_volumes(NodeServices& services, const RequestContext& context,
                             const Instance& instance) {
    if (services.volumes == nullptr) {
        return {};
    }
    return services.driver.set_volumes(instance, TRY(connected_disks(services, context, instance)));
}

Result<std::vector<VolumeDisk>> connected_disks(NodeServices& services,
                                                const RequestContext& context,
                                                const Instance& instance) {
    std::vector<VolumeDisk> disks;
    for (const BlockDevice& device : TRY(volumes_of(services, context, instance.uuid))) {
        if (device.connection_info.size() == 0) {
            continue;  // its attach has not come so far, or was given up
        }
        std::string socket = TRY_CONTEXT(
            services.volumes->host.connect(instance.uuid, device.volume_id, device.connection_info),
            "connecting volume {}", device.volume_id);
        disks.push_back(volume_disk(device, std::move(socket)));
    }
    return disks;
}

Result<void> disconnect_volumes(NodeServices& services, const Instance& instance) {
    Result<void> first;
    if (services.volumes == nullptr) {
        return first;
    }
    for (const auto& [server, volume] : services.volumes->host.connected()) {
        if (server == instance.uuid) {
            keep_first(first, services.volumes->host.disconnect(server, volume));
        }
    }
    return first;
}

Result<VolumeDisk> connect_volume(NodeServices& services, const RequestContext& context,
                                  const Instance& instance, BlockDevice& device) {
    VolumeServices& volumes = *services.volumes;
    const VolumeRecord volume = TRY(volumes.volumes.volume(context, device.volume_id));
    if (volume.encrypted) {
        return not_encrypted(volume);
    }
    Json connector = TRY(volumes.host.connector());
    connector.set("mountpoint", device.device_name);
    const VolumeAttachmentRecord attachment =
        TRY(volumes.volumes.update_attachment(context, device.attachment_id, connector));
    if (is_encrypted(attachment.connection_info)) {
        return not_encrypted(volume);
    }
    device.connection_info = recorded_info(attachment.connection_info, volume);
    device.volume_size = volume.size_gb;
    std::string socket =
        TRY(volumes.host.connect(instance.uuid, device.volume_id, device.connection_info));
    TRY(volumes.records.block_device_save(context, device));
    return volume_disk(device, std::move(socket));
}

Result<VolumeDisk> connect_arriving_volume(NodeServices& services, const RequestContext& context,
                                           const Instance& instance, BlockDevice& device) {
    VolumeServices& volumes = *services.volumes;
    const VolumeRecord volume = TRY(volumes.volumes.volume(context, device.volume_id));
    Json connector = TRY(volumes.host.connector());
    connector.set("mountpoint", device.device_name);
    const VolumeAttachmentRecord attachment =
        TRY(volumes.volumes.create_attachment(context, device.volume_id, instance.uuid, connector));
    device.attachment_id = attachment.id;
    device.connection_info = recorded_info(attachment.connection_info, volume);
    TRY(volumes.records.block_device_save(context, device));
    if (is_encrypted(attachment.connection_info)) {
        return not_encrypted(volume);
    }
    std::string socket =
        TRY(volumes.host.connect(instance.uuid, device.volume_id, device.connection_info));
    return volume_disk(device, std::move(socket));
}

Result<void> take_attachment_back(NodeServices& services, const RequestContext& context,
                                  BlockDevice& device, const std::string& old_id,
                                  const std::vector<BlockDevice>& before) {
    VolumeServices& volumes = *services.volumes;
    const std::string other = std::exchange(device.attachment_id, old_id);
    const auto known = std::ranges::find(before, old_id, &BlockDevice::attachment_id);
    if (known != before.end()) {
        device.connection_info = known->connection_info;
    } else {
        const VolumeRecord volume = TRY(volumes.volumes.volume(context, device.volume_id));
        Json connector = TRY(volumes.host.connector());
        connector.set("mountpoint", device.device_name);
        const auto attachment = TRY(volumes.volumes.update_attachment(context, old_id, connector));
        device.connection_info = recorded_info(attachment.connection_info, volume);
        TRY(volumes.volumes.complete_attachment(context, old_id));
    }
    TRY(volumes.records.block_device_save(context, device));
    return other.empty() ? Result<void>() : volumes.volumes.delete_attachment(context, other);
}

Result<std::vector<VolumeDisk>> attach_volumes(NodeServices& services,
                                               const RequestContext& context,
                                               const Instance& instance) {
    std::vector<VolumeDisk> disks;
    if (services.volumes == nullptr) {
        return disks;
    }
    auto devices = TRY(services.volumes->records.block_devices(context, instance.uuid));
    name_devices(instance, devices);  // one that came to a shelved server has no name yet
    for (BlockDevice& device : devices) {
        if (!device.is_volume() || device.volume_id.empty()) {
            continue;
        }
        disks.push_back(TRY_CONTEXT(connect_volume(services, context, instance, device),
                                    "attaching volume {}", device.volume_id));
        TRY(services.volumes->volumes.complete_attachment(context, device.attachment_id));
    }
    return disks;
}

Result<void> reserve_volume(NodeServices& services, const RequestContext& context,
                            const std::string& uuid, BlockDevice& device) {
    VolumeApi& volumes = services.volumes->volumes;
    TRY(services.volumes->host.disconnect(uuid, device.volume_id));
    if (!device.attachment_id.empty() && device.connection_info.size() == 0) {
        return {};  // it only reserves
    }
    std::string reserving;  // one that a crash kept from being recorded
    std::string old = device.attachment_id;
    for (const VolumeAttachmentRecord& other : TRY(volumes.attachments(context, uuid))) {
        if (other.volume_id == device.volume_id && other.id != old) {
            reserving = other.id;
        }
    }
    if (reserving.empty()) {
        reserving = TRY(volumes.create_attachment(context, device.volume_id, uuid, Json())).id;
    }
    device.attachment_id = reserving;
    device.connection_info = Json::object();
    if (!old.empty()) {
        TRY(volumes.delete_attachment(context, old));
    }
    return services.volumes->records.block_device_save(context, device);
}

Result<void> reserve_volumes(NodeServices& services, const RequestContext& context,
                             const Instance& instance) {
    for (BlockDevice& device : TRY(volumes_of(services, context, instance.uuid))) {
        TRY(reserve_volume(services, context, instance.uuid, device));
    }
    return disconnect_volumes(services, instance);
}

Result<void> delete_unrecorded_attachments(NodeServices& services, const RequestContext& context,
                                           const std::string& uuid) {
    const auto devices = TRY(volumes_of(services, context, uuid));
    VolumeApi& volumes = services.volumes->volumes;
    for (const VolumeAttachmentRecord& attachment : TRY(volumes.attachments(context, uuid))) {
        const bool recorded = std::ranges::any_of(devices, [&](const BlockDevice& device) {
            return device.attachment_id == attachment.id;
        });
        if (!recorded) {
            TRY(volumes.delete_attachment(context, attachment.id));
        }
    }
    return {};
}

Result<void> delete_attachments(NodeServices& services, const RequestContext& context,
                                const std::string& uuid) {
    if (services.volumes == nullptr) {
        return {};
    }
    VolumeApi& volumes = services.volumes->volumes;
    for (const VolumeAttachmentRecord& attachment : TRY(volumes.attachments(context, uuid))) {
        TRY(volumes.delete_attachment(context, attachment.id));
    }
    return {};
}

void release_volumes(NodeServices& services, const RequestContext& context,
                     const Instance& instance, bool delete_volumes) {
    undo_or_retry(disconnect_volumes(services, instance), "a volume's back end goes on");
    const auto devices = volumes_of(services, context, instance.uuid);
    if (!devices.ok()) {
        if (!is_instance_gone(devices.error())) {
            log_warn("compute", "the volumes of a server were not released",
                     {{"why", devices.error().text()}});
        }
        return;
    }
    if (devices->empty()) {
        return;
    }
    VolumeApi& volumes = services.volumes->volumes;
    for (const BlockDevice& device : *devices) {
        if (!device.attachment_id.empty()) {
            undo_or_retry(volumes.delete_attachment(context, device.attachment_id),
                          "an attachment was not deleted");
        }
    }
    undo_or_retry(delete_attachments(services, context, instance.uuid),
                  "attachments that no record knows of stay");
    for (const BlockDevice& device : *devices) {
        if (delete_volumes && device.delete_on_termination) {
            warn_unless_ok(volumes.delete_volume(context, device.volume_id),
                           "a volume was not deleted with its server");
        }
    }
}

}  // namespace kumoi::compute
