#include "compute/manager/block_device_build.h"

#include <algorithm>

#include "base/log.h"
#include "compute/manager/volume_api.h"
#include "compute/manager/volume_connections.h"
#include "compute/manager/volume_task.h"

namespace kumoi::compute {
namespace {

constexpr const char* kAbort = "BuildAbortException";

VolumeOrder order_for(const Instance& instance, const BlockDevice& device) {
    VolumeOrder order;
    order.size_gb = device.volume_size.value_or(0);  // 0: as large as its snapshot
    order.volume_type = device.volume_type;
    if (device.source_type == "image") {
        order.image_id = device.image_id;
    } else if (device.source_type == "snapshot") {
        order.snapshot_id = device.snapshot_id;
    } else {
        order.name = instance.uuid + "-blank-vol";
    }
    return order;
}

Result<void> wait_available(NodeServices& services, const RequestContext& context,
                            const std::string& volume_id) {
    VolumeServices& volumes = *services.volumes;
    std::string status;
    for (int64_t attempt = 0; attempt <= volumes.create_retries; ++attempt) {
        if (attempt > 0) {
            volumes.sleep(volumes.create_interval_ms);
        }
        status = TRY(volumes.volumes.volume(context, volume_id)).status;
        if (status == "available") {
            return {};
        }
        if (status == "error") {
            break;
        }
    }
    return Error::unavailable(
               "Volume {} did not finish being created even after we waited {} seconds or {} "
               "attempts. And its status is {}.",
               volume_id, volumes.create_retries * volumes.create_interval_ms / 1000,
               volumes.create_retries, status)
        .with_fault("VolumeNotCreated");
}

Result<void> make_volume(NodeServices& services, const RequestContext& context,
                         const Instance& instance, BlockDevice& device) {
    VolumeServices& volumes = *services.volumes;
    device.volume_id = TRY(volumes.volumes.create_volume(context, order_for(instance, device))).id;
    auto there = [&]() -> Result<void> {
        TRY(volumes.records.block_device_save(context, device));
        return wait_available(services, context, device.volume_id);
    }();
    if (!there.ok() && device.delete_on_termination) {
        warn_unless_ok(volumes.volumes.delete_volume(context, device.volume_id),
                       "a volume that did not become available stays");
    }
    return there;
}

Result<VolumeDisk> build_volume(NodeServices& services, const RequestContext& context,
                                const Instance& instance, BlockDevice& device) {
    VolumeServices& volumes = *services.volumes;
    if (device.volume_id.empty()) {
        TRY(make_volume(services, context, instance, device));
    }
    if (device.attachment_id.empty()) {
        device.attachment_id =
            TRY(volumes.volumes.create_attachment(context, device.volume_id, instance.uuid, Json()))
                .id;
        TRY(volumes.records.block_device_save(context, device));
    }
    VolumeDisk disk = TRY(connect_volume(services, context, instance, device));
    TRY(volumes.volumes.complete_attachment(context, device.attachment_id));
    return disk;
}

}  // namespace

bool is_volume_backed(const std::vector<BlockDevice>& devices) {
    return std::ranges::any_of(
        devices, [](const BlockDevice& device) { return device.is_volume() && device.is_root(); });
}

std::string root_device_name(const std::vector<BlockDevice>& devices) {
    const auto root = std::ranges::find_if(devices, &BlockDevice::is_root);
    return root == devices.end() ? "" : root->device_name;
}

void name_devices(const Instance& instance, std::vector<BlockDevice>& devices) {
    const std::string prefix = device_prefix(instance);
    const auto name = [&](auto&& is_meant, std::string letter) {
        for (BlockDevice& device : devices) {
            if (device.device_name.empty() && is_meant(device)) {
                device.device_name =
                    letter.empty() ? next_device_name(instance, devices) : prefix + letter;
                letter.clear();
            }
        }
    };
    name([](const BlockDevice& device) { return device.is_root(); }, "a");
    // The letters that next_device_name keeps free for them.
    const bool ephemeral = instance.flavor.ephemeral_gb > 0;
    const auto is_local = [](const BlockDevice& device) {
        return device.source_type == "blank" && device.destination_type == "local";
    };
    if (ephemeral) {
        name([&](const auto& device) { return is_local(device) && device.guest_format != "swap"; },
             "b");
    }
    if (instance.flavor.swap_mb > 0) {
        name([&](const auto& device) { return is_local(device) && device.guest_format == "swap"; },
             ephemeral ? "c" : "b");
    }
    name([](const BlockDevice& device) { return device.is_volume(); }, "");
}

Result<void> record_device_names(NodeServices& services, const RequestContext& context,
                                 const Instance& instance, std::vector<BlockDevice>& devices) {
    const std::vector<BlockDevice> before = devices;
    name_devices(instance, devices);
    for (size_t i = 0; i < devices.size(); ++i) {
        const bool named = devices[i].device_name != before[i].device_name;
        if (named && devices[i].id != 0 && services.volumes != nullptr) {
            TRY(services.volumes->records.block_device_save(context, devices[i]));
        }
    }
    return {};
}

Result<std::vector<VolumeDisk>> build_volumes(NodeServices& services, const Operation& operation,
                                              const Instance& instance,
                                              std::vector<BlockDevice>& devices) {
    std::vector<VolumeDisk> disks;
    if (std::ranges::none_of(devices, &BlockDevice::is_volume)) {
        return disks;
    }
    if (services.volumes == nullptr) {
        return Error::unsupported("This cloud has no volumes").with_fault(kAbort);
    }
    for (BlockDevice& device : devices) {
        if (!device.is_volume()) {
            continue;
        }
        auto disk = build_volume(services, operation.context, instance, device);
        if (!disk.ok()) {
            Error error = std::move(disk).error();
            if (is_taken_over(error)) {
                return error;
            }
            return std::move(error)
                .with_context(fmt::format(
                    "Build of instance {} aborted: Block Device Mapping is Invalid", instance.uuid))
                .with_fault(kAbort);
        }
        disks.push_back(std::move(*disk));
    }
    return disks;
}

}  // namespace kumoi::compute
