#include "micro.h"

#include <stdarg.h>

enum {
    kCom1 = 0x3f8,
    kPm1Control = 0x604,  // board kumoi-1; QEMU's q35 has it at the same place
    kPmTimer = 0x608,
    kPmReset = 0x60c,
    kSleepEnable = 1 << 13,
};

// struct hvm_start_info, Xen public/arch-x86/hvm/start_info.h, version 1.
typedef struct {
    uint32_t magic, version, flags, modules_count;
    uint64_t modules, command_line, rsdp, memory_map;
    uint32_t memory_map_entries, reserved;
} StartInfo;
typedef struct {
    uint64_t address, size;
    uint32_t type, reserved;
} MemoryMapEntry;

extern uint32_t start_info;
extern uint64_t pdpt[512];
extern char guest_end[];
extern char exception_entries[], interrupt_entries[];

volatile uint32_t interrupt_count[256];
static Handler handlers[256];

typedef struct __attribute__((packed)) {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
} Gate;
static Gate idt[256] __attribute__((aligned(16)));

static const StartInfo* info(void) {
    return (const StartInfo*)(uintptr_t)start_info;
}

static void put_char(char c) {
    out8(kCom1, (uint8_t)c);
}

static void put_text(const char* text) {
    for (; *text != 0; text++) {
        put_char(*text);
    }
}

static void put_number(uint64_t value, unsigned base) {
    char digits[24];
    int at = 23;
    digits[at] = 0;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    put_text(digits + at);
}

static void vprint(const char* format, va_list arguments) {
    for (; *format != 0; format++) {
        if (*format != '%') {
            put_char(*format);
            continue;
        }
        switch (*++format) {
            case 's': put_text(va_arg(arguments, const char*)); break;
            case 'd':
            case 'u': put_number(va_arg(arguments, uint64_t), 10); break;
            case 'x': put_number(va_arg(arguments, uint64_t), 16); break;
            case 0: return;
            default: put_char(*format); break;
        }
    }
}

void print(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprint(format, arguments);
    va_end(arguments);
}

void verdict_ok(const char* name, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print("\nmicro: %s ok ", name);
    vprint(format, arguments);
    put_char('\n');
    shut_down();
}

void verdict_fail(const char* name, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print("\nmicro: %s FAIL ", name);
    vprint(format, arguments);
    put_char('\n');
    shut_down();
}

void shut_down(void) {
    out16(kPm1Control, kSleepEnable | 5 << 10);
    out16(kPm1Control, kSleepEnable);  // QEMU's S5
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

void reset_machine(void) {
    out8(kPmReset, 6);
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

const char* command_line(void) {
    const char* text = (const char*)(uintptr_t)info()->command_line;
    return text == NULL ? "" : text;
}

static const char* find_word(const char* prefix) {
    const size_t length = strlen(prefix);
    for (const char* at = command_line(); *at != 0; at++) {
        if ((at == command_line() || at[-1] == ' ') && memcmp(at, prefix, length) == 0) {
            return at + length;
        }
    }
    return NULL;
}

bool option(const char* word) {
    const char* end = find_word(word);
    return end != NULL && (*end == 0 || *end == ' ');
}

uint64_t option_number(const char* prefix, uint64_t otherwise) {
    const char* at = find_word(prefix);
    if (at == NULL) {
        return otherwise;
    }
    uint64_t value = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
    }
    return value;
}

// The end of RAM that ends below `limit`.
static uint64_t memory_end_below(uint64_t limit) {
    uint64_t end = 0;
    const MemoryMapEntry* entries = (const MemoryMapEntry*)(uintptr_t)info()->memory_map;
    for (uint32_t i = 0; i < info()->memory_map_entries; i++) {
        const uint64_t entry_end = entries[i].address + entries[i].size;
        if (entries[i].type == 1 && entry_end > end && entry_end <= limit) {
            end = entry_end;
        }
    }
    return end;
}

uint64_t memory_bytes(void) {
    return memory_end_below(0x100000000ull);
}

uint64_t memory_end(void) {
    return memory_end_below(~0ull);
}

uint64_t rsdp_address(void) {
    return info()->rsdp;
}

static void set_gate(int vector, const char* entry) {
    const uint64_t offset = (uint64_t)(uintptr_t)entry;
    idt[vector] =
        (Gate){(uint16_t)offset, 8, 0, 0x8e, (uint16_t)(offset >> 16), (uint32_t)(offset >> 32), 0};
}

void load_idt(void) {
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } pointer = {sizeof idt - 1, (uint64_t)(uintptr_t)idt};
    __asm__ volatile("lidt %0" ::"m"(pointer));
}

void interrupts_init(void) {
    for (int i = 0; i < 32; i++) {
        set_gate(i, exception_entries + i * 16);
    }
    for (int i = 32; i < 256; i++) {
        set_gate(i, interrupt_entries + (i - 32) * 16);
    }
    load_idt();
    lapic_write(0xf0, 0x1ff);     // enabled, spurious vector 255
    lapic_write(0x350, 0x10000);  // LINT0 masked: nothing from the 8259s
    lapic_write(0x80, 0);
}

void set_handler(uint8_t vector, Handler handler) {
    handlers[vector] = handler;
}

void handle_interrupt(uint32_t vector) {
    interrupt_count[vector & 255]++;
    if (handlers[vector & 255] != NULL) {
        handlers[vector & 255]();
    }
    lapic_write(0xb0, 0);
}

void report_exception(const uint64_t* stack) {
    uint64_t cr2;
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    print("\nmicro: exception FAIL vector=%u stack=%x %x %x cr2=%x\n", stack[0], stack[1], stack[2],
          stack[3], cr2);
    shut_down();
}

void lapic_write(uint32_t offset, uint32_t value) {
    *(volatile uint32_t*)(0xfee00000ull + offset) = value;
}
uint32_t lapic_read(uint32_t offset) {
    return *(volatile uint32_t*)(0xfee00000ull + offset);
}

void ioapic_route(uint32_t pin, uint8_t vector) {
    volatile uint32_t* select = (volatile uint32_t*)0xfec00000ull;
    volatile uint32_t* window = (volatile uint32_t*)0xfec00010ull;
    *select = 0x11 + 2 * pin;
    *window = lapic_read(0x20) & 0xff000000;
    *select = 0x10 + 2 * pin;
    *window = vector;
}

uint64_t tsc_per_us(void) {
    static uint64_t measured;
    if (measured == 0) {
        const uint32_t begun = in32(kPmTimer) & 0xffffff;
        const uint64_t tsc = rdtsc();
        uint32_t ticks;
        uint32_t polls = 0;
        do {
            ticks = ((in32(kPmTimer) & 0xffffff) - begun) & 0xffffff;
        } while (ticks < 17898 && ++polls < 100000);  // 5 ms
        measured = ticks == 0 ? 2000 : (rdtsc() - tsc) * 3579545 / 1000000 / ticks;
        measured = measured == 0 ? 1 : measured;
    }
    return measured;
}

void wait_us(uint64_t us) {
    const uint64_t end = rdtsc() + us * tsc_per_us();
    while (rdtsc() < end) {
        pause_once();
    }
}

void* allocate(size_t size, size_t alignment) {
    static uintptr_t next;
    if (next == 0) {
        next = (uintptr_t)guest_end;
    }
    next = (next + alignment - 1) / alignment * alignment;
    void* memory = (void*)next;
    next += size;
    memset(memory, 0, size);
    return memory;
}

void map_gib(uint64_t address) {
    const uint64_t gib = address >> 30;
    if (gib >= 512 || pdpt[gib] != 0) {
        return;
    }
    uint64_t* directory = allocate(4096, 4096);
    for (uint64_t i = 0; i < 512; i++) {
        directory[i] = (gib << 30) + (i << 21) + 0x83;
    }
    pdpt[gib] = (uint64_t)(uintptr_t)directory + 3;
}

void* memset(void* to, int value, size_t size) {
    uint8_t* at = to;
    uint64_t pattern = (uint8_t)value * 0x0101010101010101ull;
    size_t words = size / 8;
    size &= 7;
    __asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(pattern) : "memory");
    while (size-- > 0) {
        *(volatile uint8_t*)at++ = (uint8_t)value;
    }
    return to;
}

void* memcpy(void* to, const void* from, size_t size) {
    void* at = to;
    size_t words = size / 8;
    __asm__ volatile("rep movsq" : "+D"(at), "+S"(from), "+c"(words)::"memory");
    for (size_t i = 0; i < (size & 7); i++) {
        ((volatile uint8_t*)at)[i] = ((const uint8_t*)from)[i];
    }
    return to;
}

int memcmp(const void* a, const void* b, size_t size) {
    const uint8_t* left = a;
    const uint8_t* right = b;
    for (size_t i = 0; i < size; i++) {
        if (left[i] != right[i]) {
            return left[i] - right[i];
        }
    }
    return 0;
}

size_t strlen(const char* text) {
    size_t length = 0;
    while (text[length] != 0) {
        length++;
    }
    return length;
}

__attribute__((weak)) void ap_main(void) {}
