// Starts the second processor with INIT and SIPI and plays interrupt ping-pong with it.
#include "micro.h"

static const char kName[] = "ipi";
enum { kPing = 0x50, kPong = 0x51, kRounds = 20, kTrampoline = 0x8000 };

extern char ap_trampoline[], ap_trampoline_end[];
extern uint64_t ap_stack;
static volatile uint32_t ap_alive;

static void send_ipi(uint32_t apic_id, uint32_t command) {
    lapic_write(0x310, apic_id << 24);
    lapic_write(0x300, command);
}

static void on_ping(void) {
    send_ipi(0, kPong);
}

void ap_main(void) {
    load_idt();
    lapic_write(0xf0, 0x1ff);
    lapic_write(0x80, 0);
    ap_alive = 1;
    for (;;) {
        halt_once();
    }
}

int main(void) {
    interrupts_init();
    set_handler(kPing, on_ping);
    ap_stack = (uint64_t)(uintptr_t)allocate(8192, 4096) + 8192;
    memcpy((void*)kTrampoline, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
    const uint64_t begun = rdtsc();
    send_ipi(1, 0x4500);  // INIT
    wait_us(10000);
    for (int i = 0; i < 2 && !ap_alive; i++) {
        send_ipi(1, 0x4600 | kTrampoline >> 12);  // SIPI
        for (int j = 0; j < 1000 && !ap_alive; j++) {
            wait_us(1000);
        }
    }
    if (!ap_alive) {
        verdict_fail(kName, "processor 1 did not start");
    }
    const uint64_t start_us = (rdtsc() - begun) / tsc_per_us();
    interrupts_on();
    for (uint32_t i = 1; i <= kRounds; i++) {
        const uint64_t sent = rdtsc();
        send_ipi(1, kPing);
        while (interrupt_count[kPong] < i) {
            pause_once();
            if (rdtsc() - sent > 2000000 * tsc_per_us()) {
                verdict_fail(kName, "round %u: ping %u, pong %u", (uint64_t)i,
                             (uint64_t)interrupt_count[kPing], (uint64_t)interrupt_count[kPong]);
            }
        }
    }
    verdict_ok(kName, "rounds=%u start_us=%u", (uint64_t)kRounds, start_us);
}
