// load_boot(): picks the loader for a kernel file and prepares guest memory for the first
// instruction.
#pragma once

#include "hypervisor/boot/boot_params.h"

namespace kumoi::hypervisor {

// Guest memory must be fresh (all zero) below 1 MiB and where the kernel goes.
Result<EntryPoint> load_boot(const BootSource& source, GuestMemory& memory, Random& random,
                             FileSource& files);

}  // namespace kumoi::hypervisor
