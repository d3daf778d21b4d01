// A server's folder during a resize: the folder as it was is kept aside, whole, under
// "<uuid>_resize", and a copy of it takes its place. As long as the one kept aside exists the
// resize can be taken back. The steps may be cut short anywhere and repeated. The guest is off.
// Blocking.
#pragma once

#include "base/result.h"
#include "compute/driver/instance_folder.h"

namespace kumoi::compute::resize_folder {

bool is_kept(const InstanceFolder& folder);
Result<void> keep_aside(const InstanceFolder& folder);
// The same without a copy: the server goes on elsewhere.
Result<void> put_aside(const InstanceFolder& folder);
Result<void> restore(const InstanceFolder& folder);  // nothing kept: fine
Result<void> discard(const InstanceFolder& folder);  // what is kept, and what a crash left

}  // namespace kumoi::compute::resize_folder
