// FakeDriver (compute_fakes.h): the volumes of its guests.
#include "tests/support/compute_fakes.h"

namespace kumoi::compute {

Result<void> FakeDriver::set_volumes(const Instance& instance,
                                     const std::vector<VolumeDisk>& volumes) {
    const std::lock_guard lock(mutex_);
    auto& mine = volumes_[instance.uuid];
    mine.clear();
    for (const VolumeDisk& volume : volumes) {
        mine[volume.volume_id] = volume.socket;
    }
    return {};
}

Result<std::vector<DiskPlace>> FakeDriver::disk_places(const Instance&,
                                                       const std::vector<VolumeDisk>& volumes) {
    std::vector<DiskPlace> places = {{kRootDisk, "pci", pci_address(11)}};
    unsigned slot = 17;
    for (const VolumeDisk& volume : volumes) {
        if (!volume.root) {
            places.push_back({volume.volume_id, "pci", pci_address(slot++)});
        }
    }
    return places;
}

Result<void> FakeDriver::attach_volume(const Instance& instance, const VolumeDisk& volume) {
    TRY(log_.enter("driver.attach_volume"));
    {
        const std::lock_guard lock(mutex_);
        volumes_[instance.uuid][volume.volume_id] = volume.socket;
    }
    log_.leave();
    return {};
}

Result<void> FakeDriver::detach_volume(const Instance& instance, const std::string& volume_id) {
    TRY(log_.enter("driver.detach_volume"));
    {
        const std::lock_guard lock(mutex_);
        volumes_[instance.uuid].erase(volume_id);
    }
    log_.leave();
    return {};
}

Result<void> FakeDriver::reconnect_volume(const Instance&, const std::string&) {
    TRY(log_.enter("driver.reconnect_volume"));
    log_.leave();
    return {};
}

Result<void> FakeDriver::rename_volume(const Instance& instance, const std::string& volume_id,
                                       const std::string& new_volume_id) {
    TRY(log_.enter("driver.rename_volume"));
    {
        const std::lock_guard lock(mutex_);
        auto& mine = volumes_[instance.uuid];
        if (const auto found = mine.find(volume_id); found != mine.end()) {
            const std::string socket = found->second;
            mine.erase(found);
            mine[new_volume_id] = socket;
        }
    }
    log_.leave();
    return {};
}

std::map<std::string, std::string> FakeDriver::volumes(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = volumes_.find(uuid);
    return found == volumes_.end() ? std::map<std::string, std::string>() : found->second;
}

}  // namespace kumoi::compute
