// For measuring when a guest runs: writes data to `fill=` MiB of its memory, says
// "micro: tick ready", and then a dot to the serial port every 300 instructions, for ever,
// touching no memory.
#include "micro.h"

int main(void) {
    const uint64_t base = 0x1000000;
    const uint64_t pages = option_number("fill=", 0) * 256;
    for (uint64_t page = 0; page < pages && base + page * 4096 < memory_bytes(); page++) {
        *(volatile uint64_t*)(base + page * 4096) = page + 1;
    }
    print("\nmicro: tick ready\n");
    for (;;) {
        __asm__ volatile(
            "mov $0x3f8, %%dx\n"
            "mov $'.', %%al\n"
            "out %%al, %%dx\n"
            "mov $150, %%ecx\n"
            "1: dec %%ecx\n"
            "jnz 1b\n" ::: "eax", "ecx", "edx", "cc");
    }
}
