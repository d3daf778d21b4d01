#include "compute/driver/guest_volumes.h"

#include <algorithm>
#include <set>

#include "base/file.h"
#include "base/unix_socket.h"

namespace kumoi::compute {
namespace {

constexpr size_t kFileMax = 1 << 20;
constexpr size_t kSerialMax = 20;  // bytes of a virtio block serial
constexpr RemovedKind kDisk = {
    "remove_disk", "device", "DeviceDetachFailed",
    "Unmount it in the guest, see that its kernel has ACPI hot-plug, or stop the server, and try "
    "again."};

}  // namespace

Result<std::vector<VolumeDisk>> read_volumes(const InstanceFolder& folder) {
    std::vector<VolumeDisk> volumes;
    if (!path_exists(folder.volumes())) {
        return volumes;
    }
    const Json json = TRY_CONTEXT(Json::parse(TRY(read_file(folder.volumes(), kFileMax))), "{}",
                                  folder.volumes());
    for (const JsonView& one : TRY(JsonView(json, "volumes.json").array("volumes"))) {
        VolumeDisk volume;
        volume.volume_id = TRY(one.string("volume"));
        volume.socket = TRY(one.string("socket"));
        volume.bus = one.json().string_or("bus");
        volume.root = one.json().bool_or("root");
        volume.slot = static_cast<unsigned>(TRY(one.integer_or("slot", 0, {0, 31})));
        volumes.push_back(std::move(volume));
    }
    return volumes;
}

Result<void> write_volumes(const InstanceFolder& folder, const std::vector<VolumeDisk>& volumes) {
    if (volumes.empty()) {
        return remove_file(folder.volumes());
    }
    Json list = Json::array();
    for (const VolumeDisk& volume : volumes) {
        list.push_back(Json::object({{"volume", volume.volume_id},
                                     {"socket", volume.socket},
                                     {"bus", volume.bus},
                                     {"root", volume.root},
                                     {"slot", volume.slot}}));
    }
    const Json json = Json::object({{"volumes", std::move(list)}});
    return write_file_atomic(folder.volumes(), json.dump_pretty(), 0600);
}

void assign_volume_slots(std::vector<VolumeDisk>& volumes, const std::vector<VolumeDisk>& known) {
    std::set<unsigned> used;
    for (VolumeDisk& volume : volumes) {
        if (const VolumeDisk* before = find_volume(known, volume.volume_id)) {
            volume.slot = before->slot;
        }
        used.insert(volume.slot);
    }
    for (VolumeDisk& volume : volumes) {
        for (unsigned slot = kVolumeSlotFirst; slot <= kVolumeSlotLast; ++slot) {
            if (!volume.root && volume.slot == 0 && used.insert(slot).second) {
                volume.slot = slot;
            }
        }
    }
}

const VolumeDisk* root_volume(const std::vector<VolumeDisk>& volumes) {
    const auto found = std::ranges::find_if(volumes, &VolumeDisk::root);
    return found == volumes.end() ? nullptr : &*found;
}

const VolumeDisk* find_volume(const std::vector<VolumeDisk>& volumes,
                              const std::string& volume_id) {
    const auto found = std::ranges::find(volumes, volume_id, &VolumeDisk::volume_id);
    return found == volumes.end() ? nullptr : &*found;
}

std::string volume_device_id(const VolumeDisk& volume) {
    return volume.root ? "root" : "volume-" + std::to_string(volume.slot);
}

Json volume_disk_config(const VolumeDisk& volume) {
    Json disk = Json::object({{"id", volume_device_id(volume)},
                              {"vhost_user", volume.socket},
                              {"serial", volume.volume_id.substr(0, kSerialMax)}});
    if (volume.slot != 0 && volume.bus != "scsi") {
        disk.set("slot", volume.slot);
    }
    return disk;
}

Result<void> add_guest_disk(const GuestProcess& process, const Json& disk) {
    if (guest_has_device(TRY(process.call("statistics")), disk.string_or("id"))) {
        return {};
    }
    const std::string socket = disk.string_or("vhost_user");
    const UniqueFd connection = TRY(connect_unix(socket));
    const hypervisor::NamedDescriptor passed{"connect:" + socket, connection.get()};
    TRY(process.call("add_disk", Json::object({{"disk", disk}}), std::span(&passed, 1)));
    return {};
}

Result<void> remove_guest_disk(const std::string& control_socket, const std::string& id,
                               const DetachOptions& options) {
    return remove_guest_device(kDisk, control_socket, id, options);
}

Result<void> offer_connection(const GuestProcess& process, const std::string& socket) {
    const UniqueFd connection = TRY(connect_unix(socket));
    const hypervisor::NamedDescriptor passed{"connect:" + socket, connection.get()};
    TRY(process.call("offer_connection", Json::object({{"path", socket}}), std::span(&passed, 1)));
    return {};
}

}  // namespace kumoi::compute
