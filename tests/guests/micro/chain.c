// Proves that memory, registers and time survive a snapshot: walks a chain of hashes through `mib=`
// of memory (default 8), where each page's value depends on every one before it, and reads every
// clock it has on the way. Prints "micro: chain round=N hash=X" each round; after `rounds=` of them
// (0: for ever) it computes the same chain in registers alone and compares. A page, a register or
// an instruction lost anywhere gives another hash; a clock that runs backwards fails at once.
#include "micro.h"

static const char kName[] = "chain";
enum { kTickVector = 0x40 };

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash ^= value + 0x9e3779b97f4a7c15ull + (hash << 6) + (hash >> 2);
    return hash * 0x2545f4914f6cdd1dull;
}

// What the memory holds after `round` rounds, computed without memory.
static uint64_t expected_hash(uint64_t rounds, uint64_t pages) {
    uint64_t hash = 1;
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint64_t page = 0; page < pages; page++) {
            hash = mix(hash, page ^ round);
        }
    }
    return hash;
}

static void check_clocks(void) {
    static uint64_t last_tsc;
    static uint32_t last_pm;
    const uint64_t tsc = rdtsc();
    if (tsc < last_tsc) {
        verdict_fail(kName, "the TSC ran backwards by %u", last_tsc - tsc);
    }
    const uint32_t pm = in32(0x608);
    const uint32_t step = pm - last_pm;  // modulo 2^32: forwards
    if (last_tsc != 0 && step > 0x80000000u) {
        verdict_fail(kName, "the PM timer ran backwards by %u", (uint64_t)(last_pm - pm));
    }
    last_tsc = tsc;
    last_pm = pm;
}

int main(void) {
    const uint64_t pages = option_number("mib=", 8) * 256;
    const uint64_t rounds = option_number("rounds=", 0);
    const uint64_t base = 0x1000000;
    if (base + pages * 4096 > memory_bytes()) {
        verdict_fail(kName, "%u pages do not fit in %u MiB", pages, memory_bytes() >> 20);
    }
    const uint64_t fill = option_number("fill=", 0) * 256;  // pages behind it that just hold data
    const uint64_t end = memory_bytes() - base;
    for (uint64_t page = pages; page < pages + fill && page * 4096 < end; page++) {
        *(volatile uint64_t*)(base + page * 4096 + 8) = page;
    }
    interrupts_init();
    lapic_write(0x3e0, 0xb);  // divide by 1
    lapic_write(0x320, 0x20000 | kTickVector);
    lapic_write(0x380, 10000000);  // every 10 ms
    interrupts_on();
    uint64_t hash = 1;
    for (uint64_t round = 0; rounds == 0 || round < rounds; round++) {
        for (uint64_t page = 0; page < pages; page++) {
            volatile uint64_t* const cell = (volatile uint64_t*)(base + page * 4096);
            // What the round before left here goes in too, so that old memory matters.
            const uint64_t before = *cell;
            if (round != 0 && before != (page ^ (round - 1))) {
                verdict_fail(kName, "page %u holds %x in round %u", page, before, round);
            }
            hash = mix(hash, page ^ round);
            *cell = page ^ round;
            if (page % 16 == 0) {
                check_clocks();
            }
        }
        print("\nmicro: chain round=%u hash=%x ticks=%u", round, hash,
              (uint64_t)interrupt_count[kTickVector]);
    }
    const uint64_t expected = expected_hash(rounds, pages);
    if (hash != expected) {
        verdict_fail(kName, "the hash is %x, not %x", hash, expected);
    }
    verdict_ok(kName, "rounds=%u hash=%x", rounds, hash);
}
