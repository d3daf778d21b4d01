// The smallest guest: its first byte (start.S) and one line. With "idle" it stays, for the
// benchmarks; with "reset" it resets itself; with "spin" it loops in ring 0 for ever; with "echo"
// it returns what it reads from the serial port, upper case, until it reads a dot.
#include "micro.h"

static void echo(void) {
    print("\nmicro: hello echo\n");
    for (;;) {
        while ((in8(0x3f8 + 5) & 1) == 0) {
            pause_once();
        }
        const char c = (char)in8(0x3f8);
        if (c == '.') {
            return;
        }
        out8(0x3f8, (uint8_t)(c >= 'a' && c <= 'z' ? c - 32 : c));
    }
}

// Ten beats a second: shows from outside whether the guest runs.
static void beat(void) {
    for (uint64_t i = 0;; i++) {
        print("\nmicro: hello beat %u", i);
        wait_us(100000);
    }
}

// Millions of instructions a second: thousands natively, 1 to 4 where KVM emulates ring 0.
static uint64_t speed(void) {
    uint64_t loops = 200000;
    const uint64_t begun = rdtsc();
    __asm__ volatile("1: dec %0; jnz 1b" : "+r"(loops));
    const uint64_t us = (rdtsc() - begun) / tsc_per_us();
    return 400000 / (us == 0 ? 1 : us);
}

int main(void) {
    if (option("idle")) {
        print("\nmicro: hello idle\n");
        for (;;) {
            __asm__ volatile("cli; hlt");
        }
    }
    if (option("spin")) {
        print("\nmicro: hello spin\n");
        for (;;) {
            pause_once();
        }
    }
    if (option("beat")) {
        beat();
    }
    if (option("echo")) {
        echo();
    }
    if (option("reset")) {
        print("\nmicro: hello resets\n");
        reset_machine();
    }
    verdict_ok("hello", "memory=%u mips=%u", memory_bytes() >> 20, option("speed") ? speed() : 0);
}
