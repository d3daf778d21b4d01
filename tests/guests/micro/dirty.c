// Dirties memory in ring 0: `mib=` working set (default 32), `rate=` MiB/s (0: as fast as it can),
// `seconds=` (default 2; 0: for ever). Prints what it achieved each second, then checks the memory.
#include "micro.h"

static const char kName[] = "dirty";

int main(void) {
    const uint64_t mib = option_number("mib=", 32);
    const uint64_t rate = option_number("rate=", 0);
    const uint64_t seconds = option_number("seconds=", 2);
    const uint64_t second = tsc_per_us() * 1000000;
    const uint64_t base = 0x1000000;
    const uint64_t pages = mib * 256;
    if (base + (mib << 20) > memory_bytes()) {
        verdict_fail(kName, "%u MiB do not fit in %u", mib, memory_bytes() >> 20);
    }
    const uint64_t begun = rdtsc();
    uint64_t done = 0, reported = 0, page = 0, generation = 1, elapsed = 0;
    while (seconds == 0 || elapsed < seconds) {
        for (int i = 0; i < 64; i++) {
            *(volatile uint64_t*)(base + page * 4096) = generation;
            if (++page == pages) {
                page = 0;
                generation++;
            }
        }
        done += 64;
        while (rate != 0 && done * 4096 > (rdtsc() - begun) / (second >> 20) * rate) {
            pause_once();
        }
        if (rdtsc() - begun >= (elapsed + 1) * second) {
            elapsed++;
            print("\nmicro: dirty mib_per_s=%u", (done - reported) / 256);
            reported = done;
        }
    }
    for (uint64_t i = 0; i < pages; i++) {
        const uint64_t expected = i < page ? generation : generation - 1;
        const uint64_t found = *(volatile uint64_t*)(base + i * 4096);
        if (found != expected) {
            verdict_fail(kName, "page %u holds %u, not %u", i, found, expected);
        }
    }
    verdict_ok(kName, "pages=%u", done);
}
