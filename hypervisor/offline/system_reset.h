// What makes one installed system different from its copies, removed: a template's clones get their
// own. Accounts and data stay.
#pragma once

#include <string>
#include <vector>

#include "hypervisor/offline/guest_files.h"

namespace kumoi::hypervisor::offline {

// machine-id (emptied: systemd writes a new one), SSH host keys, DHCP leases, random seeds,
// cloud-init's memory of the instance, udev's names for cards, logs, shell histories, temporary
// files. Returns the paths it emptied or removed.
Result<std::vector<std::string>> reset_system(GuestFiles& files);

}  // namespace kumoi::hypervisor::offline
