// Every clock of the board ticks, and agrees with the others within a wide margin: PM timer, local
// APIC timer (periodic, one-shot by TSC deadline), PIT through the I/O APIC, RTC.
#include "micro.h"

static const char kName[] = "timer";
enum { kTicks = 20, kLapicVector = 0x40, kDeadlineVector = 0x41, kPitVector = 0x42 };

// Waits until the vector was taken `count` times; microseconds, 0 if `limit_us` passed.
static uint64_t wait_for(uint8_t vector, uint32_t count, uint64_t limit_us) {
    const uint64_t begun = rdtsc();
    while (interrupt_count[vector] < count) {
        pause_once();
        interrupts_on();
        if (rdtsc() - begun > limit_us * tsc_per_us()) {
            return 0;
        }
    }
    interrupts_off();
    return (rdtsc() - begun) / tsc_per_us();
}

static uint64_t test_lapic_periodic(void) {
    lapic_write(0x3e0, 0xb);  // divide by 1; KVM's APIC bus runs at 1 GHz
    lapic_write(0x320, 0x20000 | kLapicVector);
    lapic_write(0x380, 5000000);  // 5 ms
    const uint64_t us = wait_for(kLapicVector, kTicks, 5000000);
    lapic_write(0x380, 0);
    lapic_write(0x320, 0x10000);
    return us;
}

static uint64_t test_tsc_deadline(void) {
    uint32_t a = 1, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if ((c & 1u << 24) == 0) {
        return 1;  // not offered: nothing to test
    }
    lapic_write(0x320, 0x40000 | kDeadlineVector);
    barrier();
    wrmsr(0x6e0, rdtsc() + 10000 * tsc_per_us());  // 10 ms
    return wait_for(kDeadlineVector, 1, 2000000);
}

static uint64_t test_pit(void) {
    ioapic_route(2, kPitVector);  // MADT: ISA interrupt 0 is GSI 2
    out8(0x43, 0x34);             // channel 0, rate generator
    out8(0x40, 11932 & 255);      // 1193182 Hz / 11932 = 100 Hz
    out8(0x40, 11932 >> 8);
    return wait_for(kPitVector, 10, 5000000);
}

static uint8_t rtc_register(uint8_t index) {
    out8(0x70, index);
    return in8(0x71);
}

int main(void) {
    interrupts_init();
    const uint64_t mhz = tsc_per_us();
    if (mhz < 100 || mhz > 10000) {
        verdict_fail(kName, "TSC runs at %u MHz by the PM timer", mhz);
    }
    const uint64_t lapic = test_lapic_periodic();
    if (lapic < 50000) {  // 20 ticks of 5 ms are 100 ms; late is the host's load, early is a fault
        verdict_fail(kName, "%u local APIC ticks after %u us",
                     (uint64_t)interrupt_count[kLapicVector], lapic);
    }
    const uint64_t deadline = test_tsc_deadline();
    if (deadline == 0) {
        verdict_fail(kName, "TSC deadline never fired");
    }
    const uint64_t pit = test_pit();
    if (pit < 50000) {
        verdict_fail(kName, "%u PIT ticks after %u us", (uint64_t)interrupt_count[kPitVector], pit);
    }
    const uint8_t month = rtc_register(8);
    if (month == 0 || month > 0x12 || (rtc_register(13) & 0x80) == 0) {
        verdict_fail(kName, "RTC says month %x, register D %x", (uint64_t)month,
                     (uint64_t)rtc_register(13));
    }
    verdict_ok(kName, "mhz=%u lapic_us=%u deadline_us=%u pit_us=%u", mhz, lapic, deadline, pit);
}
