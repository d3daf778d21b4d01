// Inside of store.h: what writing and pulling do to get new host clusters.
#pragma once

#include <algorithm>
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
    // The guest's bytes, as far as one slice of the L2 table reaches.
    Allocation(uint64_t guest_offset, uint64_t guest_size, uint32_t cluster_bits,
               uint32_t entries_per_slice)
        : offset(guest_offset),
          size(guest_size),
          first(guest_offset >> cluster_bits),
          slice(first / entries_per_slice) {
        const uint64_t end_of_slice = (slice + 1) * entries_per_slice;
        count = std::min(((offset + size - 1) >> cluster_bits) + 1, end_of_slice) - first;
    }
    uint64_t last() const { return first + count - 1; }

    uint64_t offset;  // of the guest's data; at most `size` bytes are taken
    uint64_t size;
    uint64_t first;  // guest clusters
    uint64_t slice;
    uint64_t count;
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
