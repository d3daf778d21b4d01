// Brings the whole memory of a machine from a BlockSource before it runs, with several threads.
#pragma once

#include "base/result.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/snapshot/snapshot_reader.h"

namespace kumoi::hypervisor {

// `memory` must be empty. Pages that are all zero stay holes. The first error ends it.
Result<void> load_all_blocks(BlockSource& source, GuestMemory& memory, unsigned threads);

}  // namespace kumoi::hypervisor
