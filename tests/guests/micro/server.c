// A server with nothing to do, for tests of clouds: it is up at once, tells a page about itself,
// sleeps, echoes what is typed on its console, lets go of disks and cards that are asked back, and
// powers off when its power button is pressed. It costs no processor time where ring 0 is emulated.
#include "micro.h"

enum {
    kPm1Status = 0x600,
    kPm1Enable = 0x602,
    kPowerButton = 1 << 8,
    kGpeStatus = 0x620,
    kGpeEnable = 0x628,
    kGpePci = 1 << 1,
    kInserted = 0x640,
    kRemoving = 0x644,
    kEject = 0x648,
    kSciPin = 9,
    kSciVector = 0x50,
    kUart = 0x3f8,
    kUartPin = 4,
    kUartVector = 0x51,
    kLines = 24,
};

// What comes is left alone; what is wanted back goes at once.
static void serve_slots(void) {
    if ((in16(kGpeStatus) & kGpePci) == 0) {
        return;
    }
    out16(kGpeStatus, kGpePci);
    out32(kInserted, in32(kInserted));
    const uint32_t leaving = in32(kRemoving);
    if (leaving != 0) {
        out32(kRemoving, leaving);
        out32(kEject, leaving);
    }
}

static void echo(void) {
    while ((in8(kUart + 5) & 1) != 0) {
        out8(kUart, in8(kUart));
    }
}

int main(void) {
    interrupts_init();
    ioapic_route(kSciPin, kSciVector);
    ioapic_route(kUartPin, kUartVector);
    out8(kUart + 4, 0x0b);  // OUT2 lets its interrupts out
    out8(kUart + 1, 1);     // what was received
    out16(kPm1Enable, kPowerButton);
    out16(kGpeEnable, kGpePci);
    for (uint64_t line = 1; line <= kLines; line++) {
        print("\nmicro: server line %u of %u, memory=%u MiB", line, (uint64_t)kLines,
              memory_bytes() >> 20);
    }
    print("\nmicro: server ready\n");
    for (;;) {
        interrupts_off();
        if ((in16(kPm1Status) & kPowerButton) != 0) {
            print("micro: server powers off\n");
            shut_down();
        }
        serve_slots();
        echo();
        halt_once();
    }
}
