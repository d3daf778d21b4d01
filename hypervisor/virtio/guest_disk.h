// GuestDisk: what the operator's verbs need of a disk of a running guest, whatever bus it is on.
// Control thread.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/limits/limits.h"

namespace kumoi::hypervisor {

class GuestDisk {
public:
    virtual ~GuestDisk() = default;
    virtual DiskImage& image() = 0;
    virtual Result<void> set_limits(const DiskLimits& limits, int64_t now_ns) = 0;
    virtual DiskLimits limits() const = 0;
};

}  // namespace kumoi::hypervisor
