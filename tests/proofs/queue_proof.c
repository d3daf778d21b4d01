// Queue walking: whatever a driver writes, and whenever it writes it, a walk stays inside its
// tables, ends, and hands out no more than is allowed.
#include "hypervisor/virtio/queue_core.h"

#include "tests/proofs/proof.h"

#define ANY_TABLE_MAX 32768u

static struct QueueDescriptor any_descriptor(void) {
    const struct QueueDescriptor raw = {nondet_u64(), nondet_u32(), nondet_u16(), nondet_u16()};
    return raw;
}

static int refused(enum QueueStep step) {
    return step != kQueueBuffer && step != kQueueEmpty && step != kQueueIndirect;
}

static int sound(const struct QueueWalk* walk) {
    return walk->table_count <= ANY_TABLE_MAX && walk->seen <= walk->table_count &&
           walk->readable_size <= KUMOI_QUEUE_CHAIN_BYTES_MAX &&
           walk->writable_size <= KUMOI_QUEUE_CHAIN_BYTES_MAX - walk->readable_size;
}

// One step from any sound state leads to a sound state: with queue_walk_begin() giving one, that is
// every walk over tables of every size.
void every_step_stays_in_bounds(void) {
    struct QueueWalk walk = {nondet_u32(), nondet_u32(), nondet_u32(),
                             nondet_int(), nondet_u64(), nondet_u64()};
    __CPROVER_assume(sound(&walk));
    if (queue_walk_check_index(&walk) != kQueueBuffer) {
        return;  // broken: nothing is read any more
    }
    __CPROVER_assert(walk.index < walk.table_count, "a descriptor is read inside its table");
    const struct QueueDescriptor raw = any_descriptor();
    const struct QueueWalk before = walk;
    int done = 0;
    const enum QueueStep step = queue_walk_step(&walk, &raw, nondet_int(), &done);
    __CPROVER_assert(sound(&walk), "sizes stay in bounds");
    if (refused(step)) {
        return;
    }
    if (step == kQueueIndirect) {
        __CPROVER_assert(!before.in_indirect, "indirect tables are not nested");
        queue_walk_enter(&walk, &raw);
        __CPROVER_assert(sound(&walk) && walk.in_indirect, "an entered table is sound");
        __CPROVER_assert(walk.table_count >= 1 && walk.table_count <= kQueueIndirectCountMax &&
                             (uint64_t)walk.table_count * kQueueDescriptorSize == raw.length,
                         "the table is what the descriptor says");
        return;
    }
    __CPROVER_assert(walk.seen == before.seen + 1, "every step brings the end nearer");
    if (step == kQueueBuffer) {
        const int writable = (raw.flags & kQueueFlagWrite) != 0;
        __CPROVER_assert(writable || before.writable_size == 0, "readable comes first");
        __CPROVER_assert(walk.readable_size + walk.writable_size ==
                             before.readable_size + before.writable_size + raw.length,
                         "every byte is counted");
    }
}

// A whole walk over a small ring whose content changes at every look.
void every_walk_ends(void) {
    const uint32_t size = nondet_u32();
    __CPROVER_assume(size >= 1 && size <= 4);
    struct QueueWalk walk;
    queue_walk_begin(&walk, size, nondet_u16());
    uint32_t buffers = 0;
    int done = 0;
    while (!done) {  // the unwinding assertion says that this loop ends
        if (queue_walk_check_index(&walk) != kQueueBuffer) {
            return;
        }
        struct QueueDescriptor raw = any_descriptor();
        __CPROVER_assume(raw.length <= 4 * kQueueDescriptorSize);
        const enum QueueStep step = queue_walk_step(&walk, &raw, 1, &done);
        if (refused(step)) {
            return;
        }
        if (step == kQueueIndirect) {
            queue_walk_enter(&walk, &raw);
        } else if (step == kQueueBuffer) {
            ++buffers;
        }
    }
    __CPROVER_assert(buffers <= 8, "no more buffers than descriptors in two tables");
}

// The driver may ask to be told after any entry: it is, exactly when that entry is among the new.
void an_interrupt_is_sent_exactly_when_asked_for(void) {
    const uint16_t old_index = nondet_u16();
    const uint16_t event = nondet_u16();
    const uint16_t count = nondet_u16();
    const uint16_t new_index = (uint16_t)(old_index + count);
    const uint16_t distance = (uint16_t)(event - old_index);
    __CPROVER_assert((queue_event_passed(event, new_index, old_index) != 0) == (distance < count),
                     "the event lies in [old, new)");
}

void a_jump_is_seen(void) {
    const uint16_t next = nondet_u16();
    const uint16_t size = nondet_u16();
    const uint16_t moved = nondet_u16();
    __CPROVER_assert(
        (queue_index_jumped((uint16_t)(next + moved), next, size) != 0) == (moved > size),
        "an index may move by the ring's size at most");
}
