// guest.json: what a kumoi-vmm is told about one server's machine (docs/reference/guest-config.md),
// derived from the server's record. Also what we refuse to run: image properties and extra specs
// that ask for something this driver does not do. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/block_device.h"
#include "compute/device_tags.h"
#include "compute/driver/guest_display.h"
#include "compute/driver/guest_firmware.h"
#include "compute/driver/guest_memory_specs.h"
#include "compute/driver/instance_folder.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct GuestOptions {
    std::string cpu_model = "host";
    std::vector<std::string> cpu_features_masked;
    std::string kernel_append;
    std::string vhost_net = "off";  // of network cards: off, auto, on
    FirmwareOptions firmware;
    std::vector<HostNumaNode> numa_nodes;  // of the host
    DisplayOptions display;
    int64_t console_log_size_max = 1 << 20;  // bytes
};

// Unsupported or InvalidArgument, naming the property and its value.
Result<void> check_guest_supported(const Instance& instance);

// What of a rescue is in the server's folder.
struct RescueFiles {
    Properties image_properties;
    std::string disk_format = "raw";
    bool ramdisk = false;
    bool config_drive = false;
    bool stable_device =
        false;  // the server's own disks keep their places, the rescue disk is last
};

// Which of the folder's files there are.
struct GuestFiles {
    std::string disk_format = "raw";  // of the root disk
    bool ramdisk = false;
    bool ephemeral = false;
    bool swap = false;
    bool config_drive = false;
    bool cdrom = false;  // the image is an ISO 9660 file
    std::vector<VolumeDisk> volumes;
    // A rescued server boots another image.
    using Rescue = RescueFiles;
    std::optional<Rescue> rescue;
};

Json guest_config(const Instance& instance, const InstanceFolder& folder, const GuestFiles& files,
                  const GuestOptions& options);

// Where the server's own disks and volumes are in it. A disk on SCSI has no address before the
// machine gives it one.
std::vector<DiskPlace> guest_disk_places(const Instance& instance, const InstanceFolder& folder,
                                         const GuestFiles& files);

}  // namespace kumoi::compute
