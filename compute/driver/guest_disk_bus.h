// The bus of a server's disks, as its image asks (hw_disk_bus, hw_rescue_bus), and the names its
// guest then gives them. Pure functions.
#pragma once

#include <cstddef>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

Result<void> check_disk_bus(const Properties& image);
// Of a disk of the server itself; the rescue disk's.
std::string disk_bus(const Properties& image);
std::string rescue_bus(const Properties& rescue_image);
// Says so in a member of guest.json's disks; virtio is the default there.
void set_disk_bus(Json& disk, const std::string& bus);
// Linux's name of disks[index]: the disks of a bus have letters in their order.
std::string disk_device(const Json& disks, size_t index);

}  // namespace kumoi::compute
