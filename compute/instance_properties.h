// What a server's image and flavor ask of its machine, where both may say it: the image wins, as in
// Nova. Pure functions.
#pragma once

#include <string>

#include "compute/objects.h"

namespace kumoi::compute {

// The image property, else the extra spec, else `otherwise`.
std::string image_or_flavor(const Instance& instance, const std::string& image_property,
                            const std::string& extra_spec, const std::string& otherwise);

// Whether the server's network cards have a pair of queues for each processor
// (hw_vif_multiqueue_enabled, hw:vif_multiqueue_enabled). Their TAP devices must be made for it.
bool wants_multi_queue(const Instance& instance);

// Whether the server's disks are on a SCSI bus (hw_disk_bus), and so what its guest calls the root
// disk: /dev/vda or /dev/sda.
bool uses_scsi_disks(const Properties& image);
std::string root_device_name(const Instance& instance);

}  // namespace kumoi::compute
