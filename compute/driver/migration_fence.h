// MigrationFence: what a driver has besides VirtDriver whose handovers can end undecided
// (GuestOwner::Undecided), because the other host has to say something and is off.
#pragma once

#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

class MigrationFence {
public:
    virtual ~MigrationFence() = default;

    // The other host of this server's undecided live migration is off, and what ran there has
    // ended: whoever calls knows that. What is left here decides then: by its journal, and by the
    // leases of the disks where they have some. live_migration_outcome() tells how. Conflict: the
    // migration is not undecided.
    virtual Result<void> fence_live_migration(const Instance& instance) = 0;
};

}  // namespace kumoi::compute
