// io_uring rings that can do nothing but disk requests.
//
// A ring is a way around seccomp: what it is asked to do is no system call of ours. So each one is
// restricted (IORING_REGISTER_RESTRICTIONS) to reading, writing, flushing and allocating before it
// can be used, and a sandboxed process cannot make any: prepare_rings() makes as many as its disks
// may need before the filters close, take_ring() hands them out and give_ring() brings them back
// (a guest that reboots opens its queues anew). Without a sandbox take_ring() just makes one.
// prepare_rings() on the control thread; the others from any.
#pragma once

#include <liburing.h>

#include <cstddef>

#include "base/result.h"

namespace kumoi::hypervisor {

constexpr unsigned kRingEntries = 256;

Result<void> prepare_rings(size_t count);
// Exhausted when all are in use, Unsupported without io_uring: use threads then.
Result<io_uring> take_ring();
// Nothing in flight, no eventfd registered.
void give_ring(io_uring ring);

}  // namespace kumoi::hypervisor
