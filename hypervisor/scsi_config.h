// The members of guest.json that put a disk on the machine's SCSI bus: "bus" and "target". CD-ROMs
// are the bus's first targets, in their order; disks come behind them.
#pragma once

#include "base/json.h"
#include "base/result.h"

namespace kumoi::hypervisor {

struct DiskConfig;
struct VmConfig;

// "bus" and "target" of a disk, and that its other members go with them.
Result<void> parse_disk_bus(const JsonView& view, DiskConfig& disk);
// A disk that names no target gets the first one nobody else has or names.
Result<void> assign_scsi_targets(const JsonView& view, VmConfig& config);
// The same for a disk that comes to such a machine.
Result<void> choose_scsi_target(const JsonView& view, const VmConfig& config, DiskConfig& disk);
// The machine has a SCSI controller.
bool has_scsi_bus(const VmConfig& config);

}  // namespace kumoi::hypervisor
