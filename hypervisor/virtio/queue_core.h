// The decisions of walking a virtqueue's descriptors (virtio 1.2 §2.7), in the common subset of C11
// and C++ so that tests/proofs can hand exactly these functions to a bounded model checker.
//
// Nothing here reads guest memory: the caller copies a descriptor from the place it is told and
// hands the copy in, so whatever the guest writes meanwhile, every decision is about one value.
//
//     QueueWalk walk;
//     queue_walk_begin(&walk, ring_size, head, 0);
//     while (queue_walk_step(&walk, &raw /* copied from walk.index */, &rules) == kQueueBuffer ...)
#pragma once

#include <stdint.h>

#ifdef __cplusplus
namespace kumoi::hypervisor {
#endif

enum {
    kQueueFlagNext = 1,      // §2.7.5: VIRTQ_DESC_F_NEXT
    kQueueFlagWrite = 2,     // VIRTQ_DESC_F_WRITE
    kQueueFlagIndirect = 4,  // VIRTQ_DESC_F_INDIRECT
    kQueueDescriptorSize = 16,
    kQueueIndirectCountMax = 1024,
};
#define KUMOI_QUEUE_CHAIN_BYTES_MAX ((uint64_t)16 << 20)

struct QueueDescriptor {  // §2.7.5
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

struct QueueWalk {
    uint32_t table_count;    // descriptors in the table
    uint32_t seen;           // of them, so far
    uint32_t index;          // the next one; inside the table while the walk goes on
    int in_indirect;         // the table is an indirect one
    uint64_t readable_size;  // bytes of the chain so far
    uint64_t writable_size;
};

enum QueueStep {
    kQueueBuffer,    // a buffer to add; the walk has ended if queue_walk_done()
    kQueueEmpty,     // one without bytes: nothing to add
    kQueueIndirect,  // go on in the table at raw.address: queue_walk_enter()
    // The rest breaks the queue.
    kQueueIndexOutside,
    kQueueLoop,
    kQueueNestedIndirect,
    kQueueIndirectNotNegotiated,
    kQueueIndirectWithNext,
    kQueueIndirectSize,
    kQueueReadableAfterWritable,
    kQueueTooLong,
};

static inline void queue_walk_begin(struct QueueWalk* walk, uint32_t table_count, uint32_t first) {
    walk->table_count = table_count;
    walk->seen = 0;
    walk->index = first;
    walk->in_indirect = 0;
    walk->readable_size = 0;
    walk->writable_size = 0;
}

// Before a descriptor is copied: whether it is inside the table. A chain cannot visit more
// descriptors than the table has without visiting one twice, so the bound is also the test for
// loops.
static inline enum QueueStep queue_walk_check_index(const struct QueueWalk* walk) {
    if (walk->seen >= walk->table_count) {
        return kQueueLoop;
    }
    return walk->index < walk->table_count ? kQueueBuffer : kQueueIndexOutside;
}

static inline enum QueueStep queue_walk_add(struct QueueWalk* walk,
                                            const struct QueueDescriptor* raw) {
    if (raw->length == 0) {
        return kQueueEmpty;  // says nothing, costs nothing
    }
    const int writable = (raw->flags & kQueueFlagWrite) != 0;
    if (!writable && walk->writable_size != 0) {  // §2.7.4.2
        return kQueueReadableAfterWritable;
    }
    if (walk->readable_size + walk->writable_size + raw->length > KUMOI_QUEUE_CHAIN_BYTES_MAX) {
        return kQueueTooLong;
    }
    if (writable) {
        walk->writable_size += raw->length;
    } else {
        walk->readable_size += raw->length;
    }
    return kQueueBuffer;
}

// One descriptor, copied from walk->index after queue_walk_check_index(). Sets *done when the chain
// ends with it.
static inline enum QueueStep queue_walk_step(struct QueueWalk* walk,
                                             const struct QueueDescriptor* raw,
                                             int indirect_negotiated, int* done) {
    *done = 0;
    if ((raw->flags & kQueueFlagIndirect) != 0) {
        if (walk->in_indirect) {
            return kQueueNestedIndirect;
        }
        if (!indirect_negotiated) {
            return kQueueIndirectNotNegotiated;
        }
        if ((raw->flags & kQueueFlagNext) != 0) {  // §2.7.5.3.1
            return kQueueIndirectWithNext;
        }
        if (raw->length == 0 || raw->length % kQueueDescriptorSize != 0 ||
            raw->length / kQueueDescriptorSize > kQueueIndirectCountMax) {
            return kQueueIndirectSize;
        }
        return kQueueIndirect;
    }
    const enum QueueStep added = queue_walk_add(walk, raw);
    if (added != kQueueBuffer && added != kQueueEmpty) {
        return added;
    }
    ++walk->seen;
    walk->index = raw->next;
    *done = (raw->flags & kQueueFlagNext) == 0;
    return added;
}

// Into the table that kQueueIndirect found. What was counted so far stays.
static inline void queue_walk_enter(struct QueueWalk* walk, const struct QueueDescriptor* raw) {
    walk->table_count = raw->length / kQueueDescriptorSize;
    walk->seen = 0;
    walk->index = 0;
    walk->in_indirect = 1;
}

// Whether the available index moved further than the ring is long.
static inline int queue_index_jumped(uint16_t available, uint16_t next, uint16_t size) {
    return (uint16_t)(available - next) > size;
}

// §2.7.7: interrupt when the used index moved past used_event, in arithmetic modulo 2^16.
static inline int queue_event_passed(uint16_t event, uint16_t new_index, uint16_t old_index) {
    return (uint16_t)(new_index - event - 1) < (uint16_t)(new_index - old_index);
}

#ifdef __cplusplus
}  // namespace kumoi::hypervisor
#endif
