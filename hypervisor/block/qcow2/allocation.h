// Inside of store.h: what writing and pulling do to get new host clusters.
#pragma once

#include <vector>

#include "hypervisor/block/qcow2/buffer.h"
#include "hypervisor/block/qcow2/store.h"

namespace kumoi::hypervisor::qcow2 {

// One run of guest clusters on its way to new host clusters (or to its own, when they are there
// but hold nothing valid).
struct Store::Allocation {
    // What the run's clusters are now: all alike.
    enum class Old {
        Empty,   // no host cluster
        Owned,   // a host cluster of ours without valid contents in the range; one guest cluster
        Shared,  // a host cluster others use, or a compressed one
    };
    uint64_t offset = 0;  // of the guest's data; at most `size` bytes are taken
    uint64_t size = 0;
    uint64_t first = 0;  // guest clusters
    uint64_t count = 0;
    uint64_t slice = 0;
    Old old = Old::Empty;
    std::vector<L2Cache::Entry> entries;  // as they are before
    ClusterRun run;                       // host clusters
    uint64_t start = 0;                   // guest bytes [start, end) are written: data and around
    uint64_t end = 0;
    bool behind_zero = false;  // what is replaced reads as zeros, and so does what is around
    AlignedBuffer around;      // what surrounds the data: head, then tail
    bool around_zero = false;
};

}  // namespace kumoi::hypervisor::qcow2
