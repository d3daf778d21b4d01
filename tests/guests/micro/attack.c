#include "attack.h"

enum { kWorkUs = 2000, kSomeBytes = 64 };

static uint8_t* bytes;
static uint64_t end_of_memory;

static void fire(Queue* queue, uint16_t head) {
    queue_offer(queue, head);
    queue_notify(queue);
    wait_us(kWorkUs);
}

static void loop_of_one(Queue* queue) {
    queue_set(queue, 0, bytes, kSomeBytes, kDescNext, 0);
    fire(queue, 0);
}

static void next_is_nowhere(Queue* queue) {
    queue_set(queue, 0, bytes, kSomeBytes, kDescNext, 0xffff);
    fire(queue, 0);
}

static void head_is_nowhere(Queue* queue) {
    fire(queue, 0xfff0);
}

static void addresses(Queue* queue) {
    const uint64_t places[] = {~0ull,      ~0ull - 16, end_of_memory - 8,
                               0xc0000000, 0xfee00000, 1ull << 52};
    for (uint16_t i = 0; i < 6; i++) {
        queue_set(queue, 0, (void*)(uintptr_t)places[i], kSomeBytes, i % 2 == 0 ? 0 : kDescWrite,
                  0);
        fire(queue, 0);
    }
}

static void lengths(Queue* queue) {
    const uint32_t sizes[] = {0, 1, 3, 9, 43, 0x7fffffff, 0x80000000u, 0xffffffffu};
    for (uint16_t i = 0; i < 8; i++) {
        queue_set(queue, 0, bytes, sizes[i], 0, 0);
        fire(queue, 0);
    }
}

static void both_directions(Queue* queue) {
    queue_set(queue, 0, bytes, kSomeBytes, kDescWrite | kDescNext, 1);
    queue_set(queue, 1, bytes, kSomeBytes, 0, 0);
    fire(queue, 0);
}

static void written_by_the_device(Queue* queue) {
    queue_set(queue, 0, bytes, kSomeBytes, kDescWrite, 0);
    fire(queue, 0);
}

static void noise(Queue* queue) {
    for (uint16_t round = 0; round < 16; round++) {
        for (uint32_t i = 0; i < kSomeBytes; i++) {
            bytes[i] = (uint8_t)(i * 37 + round * 101 + (i >> 3) * round);
        }
        queue_set(queue, 0, bytes, kSomeBytes, 0, 0);
        fire(queue, 0);
    }
}

static void nested_tables(Queue* queue) {
    Desc* table = (Desc*)bytes;
    table[0] = (Desc){(uint64_t)(uintptr_t)bytes, 16, kDescIndirect, 0};
    queue_set(queue, 0, table, 16, kDescIndirect, 0);
    fire(queue, 0);
}

static void index_jumps(Queue* queue) {
    queue_set(queue, 0, bytes, kSomeBytes, 0, 0);
    queue->avail[1] = (uint16_t)(queue->next_avail + 0x4000);
    barrier();
    queue_notify(queue);
    wait_us(kWorkUs);
}

static void doorbell_storm(Queue* queue) {
    queue_set(queue, 0, bytes, kSomeBytes, 0, 0);
    for (uint32_t i = 0; i < 200; i++) {
        queue_offer(queue, 0);
        queue_notify(queue);
    }
    wait_us(kWorkUs);
}

uint64_t attack_queue(const char* name, uint16_t index, Queue* (*restart)(uint16_t index)) {
    static const struct {
        const char* name;
        void (*run)(Queue* queue);
    } kAttacks[] = {
        {"loop", loop_of_one},
        {"next", next_is_nowhere},
        {"head", head_is_nowhere},
        {"addresses", addresses},
        {"lengths", lengths},
        {"both", both_directions},
        {"written", written_by_the_device},
        {"noise", noise},
        {"nested", nested_tables},
        {"jump", index_jumps},
        {"storm", doorbell_storm},
    };
    const uint64_t count = sizeof kAttacks / sizeof kAttacks[0];
    if (bytes == NULL) {
        bytes = allocate(4096, 4096);
        end_of_memory = memory_bytes();
    }
    for (uint64_t i = 0; i < count; i++) {
        Queue* queue = restart(index);
        if (queue == NULL) {
            verdict_fail(name, "the device does not come back before attack %s", kAttacks[i].name);
        }
        print("\nmicro: %s queue %u attack %s", name, (uint64_t)index, kAttacks[i].name);
        memset(bytes, 0, 4096);
        kAttacks[i].run(queue);
    }
    if (restart(index) == NULL) {
        verdict_fail(name, "the device does not come back after the attacks");
    }
    return count;
}
