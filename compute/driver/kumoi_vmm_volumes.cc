// KumoiVmmDriver, part three: volumes. volumes.json says which a server has; guest.json follows.
#include <algorithm>

#include "base/file.h"
#include "base/log.h"
#include "compute/driver/guest_volumes.h"
#include "compute/driver/kumoi_vmm_driver.h"

namespace kumoi::compute {
namespace {

constexpr size_t kConfigMax = 1u << 20;

Error no_slot(const VolumeDisk& volume) {
    return Error::exhausted(
               "Volume {} does not fit: a server has at most {} volumes besides its "
               "root disk",
               volume.volume_id, kVolumeSlotLast - kVolumeSlotFirst + 1)
        .with_hint("Detach one first.")
        .with_fault("TooManyDiskDevices");
}

}  // namespace

Result<void> KumoiVmmDriver::set_volumes(const Instance& instance,
                                         const std::vector<VolumeDisk>& volumes) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    const auto before = TRY(read_volumes(folder));
    std::vector<VolumeDisk> now = volumes;
    assign_volume_slots(now, before);
    return now == before ? Result<void>() : write_volumes(folder, now);
}

Result<std::vector<DiskPlace>> KumoiVmmDriver::disk_places(const Instance& instance,
                                                           const std::vector<VolumeDisk>& volumes) {
    const InstanceFolder folder = folder_of(instance);
    GuestFiles files;
    files.ephemeral = instance.flavor.ephemeral_gb > 0;
    files.swap = instance.flavor.swap_mb > 0;
    files.volumes = volumes;
    const auto known = folder.exists() ? TRY(read_volumes(folder)) : std::vector<VolumeDisk>();
    assign_volume_slots(files.volumes, known);
    return guest_disk_places(instance, folder, files);
}

// The files first: a guest that is started again has the disk, whatever becomes of this call.
Result<void> KumoiVmmDriver::attach_volume(const Instance& instance, const VolumeDisk& volume) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    const auto before = TRY(read_volumes(folder));
    std::vector<VolumeDisk> now = before;
    std::erase_if(now, [&](const VolumeDisk& one) { return one.volume_id == volume.volume_id; });
    now.push_back(volume);
    assign_volume_slots(now, before);
    if (now.back().slot == 0 && !volume.root) {
        return no_slot(volume);
    }
    auto attached = [&]() -> Result<void> {
        TRY(write_volumes(folder, now));
        TRY(write_configs(instance, folder));
        return TRY(process_of(folder).is_alive()) ? plug_volume(folder, volume.volume_id)
                                                  : Result<void>();
    }();
    if (!attached.ok()) {
        std::erase_if(now,
                      [&](const VolumeDisk& one) { return one.volume_id == volume.volume_id; });
        (void)write_volumes(folder, now);
        (void)write_configs(instance, folder);
    }
    return attached;
}

Result<void> KumoiVmmDriver::plug_volume(const InstanceFolder& folder,
                                         const std::string& volume_id) const {
    const auto volumes = TRY(read_volumes(folder));
    const VolumeDisk* volume = find_volume(volumes, volume_id);
    const Json config = TRY(Json::parse(TRY(read_file(folder.guest_config(), kConfigMax))));
    const Json* disks = config.find("disks");
    for (size_t i = 0; volume != nullptr && disks != nullptr && i < disks->size(); ++i) {
        if (disks->as_array()[i].string_or("id") == volume_device_id(*volume)) {
            return add_guest_disk(process_of(folder), disks->as_array()[i]);
        }
    }
    return Error::internal("guest.json has no disk for volume {}", volume_id);
}

// And last here: what the guest has not released stays its own.
Result<void> KumoiVmmDriver::detach_volume(const Instance& instance, const std::string& volume_id) {
    const InstanceFolder folder = folder_of(instance);
    if (!folder.exists()) {
        return {};
    }
    std::vector<VolumeDisk> volumes = TRY(read_volumes(folder));
    const VolumeDisk* volume = find_volume(volumes, volume_id);
    if (volume == nullptr) {
        return {};
    }
    if (TRY(process_of(folder).is_alive())) {
        auto removed =
            remove_guest_disk(folder.control_socket(), volume_device_id(*volume), options_.detach);
        // A guest that turned itself off meanwhile has let go of everything.
        if (!removed.ok() && TRY(process_of(folder).is_alive())) {
            return removed;
        }
    }
    std::erase_if(volumes, [&](const VolumeDisk& one) { return one.volume_id == volume_id; });
    TRY(write_volumes(folder, volumes));
    return write_configs(instance, folder);
}

// A machine that was started with the disk connects by itself; one that got it later cannot.
Result<void> KumoiVmmDriver::reconnect_volume(const Instance& instance,
                                              const std::string& volume_id) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    const auto volumes = TRY(read_volumes(folder));
    const VolumeDisk* volume = find_volume(volumes, volume_id);
    if (volume == nullptr || !TRY(process_of(folder).is_alive())) {
        return {};
    }
    return offer_connection(process_of(folder), volume->socket);
}

Result<void> KumoiVmmDriver::rename_volume(const Instance& instance, const std::string& volume_id,
                                           const std::string& new_volume_id) {
    const InstanceFolder folder = TRY(existing_folder(instance));
    std::vector<VolumeDisk> volumes = TRY(read_volumes(folder));
    for (VolumeDisk& volume : volumes) {
        if (volume.volume_id == volume_id) {
            volume.volume_id = new_volume_id;
        }
    }
    return write_volumes(folder, volumes);
}

}  // namespace kumoi::compute
