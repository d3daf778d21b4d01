#include "compute/driver/resize_rules.h"

namespace kumoi::compute {

Result<void> check_resize(const Flavor& old_flavor, const Flavor& new_flavor) {
    const bool root_shrinks = new_flavor.root_gb < old_flavor.root_gb;
    if (root_shrinks || new_flavor.ephemeral_gb < old_flavor.ephemeral_gb) {
        return Error::invalid(
                   "Resize error: Unable to resize disk down. Flavor {} has {} GiB of root and {} "
                   "GiB of ephemeral disk, flavor {} has {} and {}.",
                   old_flavor.name, old_flavor.root_gb, old_flavor.ephemeral_gb, new_flavor.name,
                   new_flavor.root_gb, new_flavor.ephemeral_gb)
            .with_hint("Choose a flavor with disks at least as large.")
            .with_fault("ResizeError");
    }
    return {};
}

}  // namespace kumoi::compute
