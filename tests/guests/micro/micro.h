// What every micro guest is made of: ports, MSRs, serial lines, interrupts, verdict, shutdown.
// Freestanding, ring 0, one processor unless it starts another. Compiled without SSE and x87, and
// kept to instructions that KVM's emulator has, because some hosts run ring 0 in it (2-4 MIPS).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value) {
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
static inline void out16(uint16_t port, uint16_t value) {
    __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
static inline void out32(uint16_t port, uint32_t value) {
    __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
static inline uint8_t in8(uint16_t port) {
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline uint16_t in16(uint16_t port) {
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline uint32_t in32(uint16_t port) {
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
static inline uint64_t rdmsr(uint32_t msr) {
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return low | (uint64_t)high << 32;
}
static inline void wrmsr(uint32_t msr, uint64_t value) {
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}
static inline uint64_t rdtsc(void) {
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return low | (uint64_t)high << 32;
}
static inline void barrier(void) {
    __asm__ volatile("mfence" ::: "memory");
}
static inline void interrupts_on(void) {
    __asm__ volatile("sti" ::: "memory");
}
static inline void interrupts_off(void) {
    __asm__ volatile("cli" ::: "memory");
}
static inline void halt_once(void) {
    __asm__ volatile("sti; hlt" ::: "memory");
}
static inline void pause_once(void) {
    __asm__ volatile("pause" ::: "memory");
}

// Serial output: %s %d %u %x (64-bit values for the last three) and %%.
void print(const char* format, ...);
// `micro: NAME ok ...` or `micro: NAME FAIL ...` is the line a test waits for. Both power off.
void verdict_ok(const char* name, const char* format, ...) __attribute__((noreturn));
void verdict_fail(const char* name, const char* format, ...) __attribute__((noreturn));
void shut_down(void) __attribute__((noreturn));  // ACPI S5
void reset_machine(void) __attribute__((noreturn));

const char* command_line(void);
bool option(const char* word);
uint64_t option_number(const char* prefix, uint64_t otherwise);  // "mib=" -> 64 of "mib=64"
uint64_t memory_bytes(void);  // RAM below 4 GiB, from the memory map of hvm_start_info
uint64_t memory_end(void);    // of all RAM
uint64_t rsdp_address(void);

// Interrupts: vectors 32-255 count themselves, call the handler if one is set, and end the
// interrupt.
extern volatile uint32_t interrupt_count[256];
typedef void (*Handler)(void);
void interrupts_init(void);  // IDT, local APIC on; the 8259s stay masked
void set_handler(uint8_t vector, Handler handler);
void lapic_write(uint32_t offset, uint32_t value);
uint32_t lapic_read(uint32_t offset);
void ioapic_route(uint32_t pin, uint8_t vector);  // edge, to this processor
void load_idt(void);

// TSC ticks per microsecond, measured against the ACPI PM timer's 3.579545 MHz.
uint64_t tsc_per_us(void);
void wait_us(uint64_t us);

// Memory from behind the image, zeroed, never freed. Identity mapped: pointer == physical address.
void* allocate(size_t size, size_t alignment);
// Makes the GiB around a physical address accessible (for BARs above 4 GiB).
void map_gib(uint64_t address);

void* memset(void* to, int value, size_t size);
void* memcpy(void* to, const void* from, size_t size);
int memcmp(const void* a, const void* b, size_t size);
size_t strlen(const char* text);

void ap_main(void);  // a guest that starts a second processor defines it
