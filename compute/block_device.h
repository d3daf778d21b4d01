// A server's block devices in Nova's words: the record (BlockDeviceMapping), and a volume as this
// host serves it to a guest. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace kumoi::compute {

struct BlockDevice {
    int64_t id = 0;  // of the record; 0: not recorded yet
    std::string uuid;
    std::string instance_uuid;
    std::string source_type;       // volume, snapshot, image, blank
    std::string destination_type;  // volume, local
    std::string guest_format;
    std::string device_type;  // disk, cdrom, lun, ...
    std::string disk_bus;     // virtio, scsi; empty: the image's
    std::string device_name;  // "/dev/vdb"
    std::string tag;
    std::string volume_id;
    std::string snapshot_id;
    std::string image_id;
    std::string attachment_id;
    std::string volume_type;
    std::optional<int64_t> boot_index;   // 0: the root disk
    std::optional<int64_t> volume_size;  // GiB
    bool delete_on_termination = false;
    bool no_device = false;
    bool encrypted = false;
    // {driver_volume_type, data, serial, ...}; an object without members: none yet
    Json connection_info = Json::object();

    bool is_volume() const { return destination_type == "volume"; }
    bool is_root() const { return boot_index == 0; }
};

// A volume that is connected to this host, as a disk of a guest.
struct VolumeDisk {
    std::string volume_id;
    std::string socket;  // of the vhost-user-blk back end
    std::string bus;     // virtio, scsi; empty: the image's
    bool root = false;
    unsigned slot = 0;  // PCI slot; 0: the driver chooses, and keeps it

    bool operator==(const VolumeDisk&) const = default;
};

}  // namespace kumoi::compute
