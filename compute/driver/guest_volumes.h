// Volumes as disks of a guest: which ones a server has (volumes.json in its folder), what
// guest.json says about them, and how they come into and out of a machine that runs. The back ends
// themselves are compute/volumes.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/block_device.h"
#include "compute/driver/guest_interfaces.h"
#include "compute/driver/guest_process.h"
#include "compute/driver/instance_folder.h"

namespace kumoi::compute {

// PCI slots of board kumoi-1 that volumes get, so that they stay where they are; the server's own
// disks are before them.
constexpr unsigned kVolumeSlotFirst = 17;
constexpr unsigned kVolumeSlotLast = 30;

// Absent: none.
Result<std::vector<VolumeDisk>> read_volumes(const InstanceFolder& folder);
Result<void> write_volumes(const InstanceFolder& folder, const std::vector<VolumeDisk>& volumes);

// Those without a slot get the one that `known` has for them, else the first free one. The root
// disk has none: it comes first by its order. 0 stays when none is left.
void assign_volume_slots(std::vector<VolumeDisk>& volumes, const std::vector<VolumeDisk>& known);
const VolumeDisk* root_volume(const std::vector<VolumeDisk>& volumes);
const VolumeDisk* find_volume(const std::vector<VolumeDisk>& volumes, const std::string& volume_id);

// A member of guest.json's disks, without its bus.
Json volume_disk_config(const VolumeDisk& volume);
std::string volume_device_id(const VolumeDisk& volume);  // "root", else from the volume's id

// `disk`: as guest.json has it. Fine when the machine has it.
Result<void> add_guest_disk(const GuestProcess& process, const Json& disk);
// DeviceDetachFailed when the guest keeps it.
Result<void> remove_guest_disk(const std::string& control_socket, const std::string& id,
                               const DetachOptions& options);
// A connection to a back end that was started anew, for a machine that cannot make one.
Result<void> offer_connection(const GuestProcess& process, const std::string& socket);

}  // namespace kumoi::compute
