// An undecided live migration whose other host an operator has forced down.
#pragma once

#include <string>

#include "base/result.h"
#include "compute/driver/live_migration.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

// VirtDriver::live_migration_outcome(). Where it is Undecided, and `other` (empty: not known) is
// forced down, what is left here decides alone.
Result<GuestOwner> outcome_with_fencing(NodeServices& services, const Instance& instance,
                                        const std::string& other);

// The destination has taken the guest of a source that is forced down: what that would have done
// of the migration's records, in case it never comes back.
void close_for_fenced_source(NodeServices& services, const Operation& operation,
                             const std::string& source);

}  // namespace kumoi::compute
