// A server with nothing to do, for tests of clouds: it is up at once, tells a page about itself,
// sleeps, and powers off when its power button is pressed. It costs no processor time where ring 0
// is emulated.
#include "micro.h"

enum {
    kPm1Status = 0x600,
    kPm1Enable = 0x602,
    kPowerButton = 1 << 8,
    kSciPin = 9,
    kSciVector = 0x50,
    kLines = 24,
};

int main(void) {
    interrupts_init();
    ioapic_route(kSciPin, kSciVector);
    out16(kPm1Enable, kPowerButton);
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
        halt_once();
    }
}
