// For measuring a live migration: writes data to `fill=` MiB of its memory, says "micro: gap
// ready tsc=TICKS" (of a microsecond), and then for ever: writes to pages of a working set of
// `mib=` MiB at `rate=` MiB a second (0: as fast as it can; without mib=: none), and says a dot
// on the serial port with every 32 pages, or each 200 us where it has nothing to write. Who reads
// the dots sees when it ran, and how fast. Where more than 2 ms of its TSC passed between two
// turns it says so: "micro: gap us=N". `tsc=` for machines that have no other clock to compare
// with.
#include "micro.h"

// Upwards from `address`, around the hole below 4 GiB.
static void fill_memory(uint64_t address, uint64_t pages) {
    enum { kGib = 1 << 30 };
    const uint64_t low_end = memory_bytes(), end = memory_end();
    for (uint64_t page = 0; page < pages; page++) {
        if (address == low_end) {
            address = 4ull * kGib;
        }
        if (address >= end) {
            verdict_fail("gap", "%u MiB do not hold it", end >> 20);
        }
        if (address >= 4ull * kGib && address % kGib == 0) {
            map_gib(address);
        }
        *(volatile uint64_t*)address = page + 1;
        address += 4096;
    }
}

int main(void) {
    const uint64_t base = 0x1000000;
    const uint64_t set = option_number("mib=", 0) * 256;
    const uint64_t rate = option_number("rate=", 0);
    uint64_t us = option_number("tsc=", 0);
    if (us == 0) {
        us = tsc_per_us();
    }
    if (base + set * 4096 > memory_bytes()) {
        verdict_fail("gap", "%u MiB do not hold it", memory_bytes() >> 20);
    }
    fill_memory(base, option_number("fill=", 0) * 256);
    print("\nmicro: gap ready tsc=%u\n", us);
    const uint64_t pages_per_s = rate * 256;
    uint64_t page = 0, generation = 1, done = 0, last = rdtsc();
    const uint64_t begun = last;
    uint64_t turn = last;
    for (;;) {
        const uint64_t now = rdtsc();
        if (now - turn > 2000 * us) {
            print("\nmicro: gap us=%u\n", (now - turn) / us);
        }
        turn = now;
        const bool behind =
            set != 0 && (rate == 0 || done < (now - begun) / us * pages_per_s / 1000000);
        if (behind) {
            for (int i = 0; i < 32; i++) {
                *(volatile uint64_t*)(base + page * 4096 + 8) = generation;
                if (++page == set) {
                    page = 0;
                    generation++;
                }
            }
            done += 32;
        } else if (now - last < 200 * us) {
            continue;
        }
        last = now;
        out8(0x3f8, '.');
    }
}
