// Where the disks of a configuration go: what their device is made from, and how firmware names
// them. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "hypervisor/virtio/device_factory.h"
#include "hypervisor/vm_config.h"

namespace kumoi::hypervisor {

VirtioBlockConfig virtio_block_config(const DiskConfig& disk);
// OpenFirmware paths of the devices that `boot.order` names.
std::vector<std::string> firmware_boot_order(const VmConfig& config);

}  // namespace kumoi::hypervisor
