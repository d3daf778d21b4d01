// What a resize may ask of a server's disks. Pure.
#pragma once

#include "base/result.h"
#include "compute/objects.h"

namespace kumoi::compute {

// ResizeError, with Nova's sentence, when a disk would have to become smaller. A root disk of 0 GiB
// is as large as its image and may become any size: growing is checked when it is done.
Result<void> check_resize(const Flavor& old_flavor, const Flavor& new_flavor);

}  // namespace kumoi::compute
