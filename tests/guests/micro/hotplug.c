// Hot-plug as a guest without ACPI does it: a disk that comes, is read and let go of, a processor
// that comes, runs, goes and comes again; then the registers are abused. `ignore` lets a removal
// request stand. The host's side of the conversation is tests/integration/hotplug_test.py.
#include "block.h"

static const char kName[] = "hotplug";
enum {
    kInserted = 0x640,
    kRemoving = 0x644,
    kEject = 0x648,
    kCpuSelect = 0x660,
    kCpuStatus = 0x664,
    kCpuNext = 0x668,
    kGpeStatus = 0x620,
    kCpuInserted = 2,
    kCpuRemoving = 4,
    kCpuEject = 8,
    kTrampoline = 0x8000,
    kIcrLow = 0x300,
    kIcrHigh = 0x310,
    kPatience = 20000,  // ms
};

extern char ap_trampoline[], ap_trampoline_end[];
extern uint64_t ap_stack;
static volatile uint32_t ap_alive;

void ap_main(void) {
    load_idt();
    ap_alive = 1;
    for (;;) {
        halt_once();
    }
}

static uint32_t wait_register(uint16_t port, const char* what) {
    for (int i = 0; i < kPatience; i++) {
        const uint32_t value = in32(port);
        if (value != 0) {
            return value;
        }
        wait_us(1000);
    }
    verdict_fail(kName, "nothing came: %s", what);
}

static void disk(void) {
    print("micro: hotplug wants a disk\n");
    const uint32_t slots = wait_register(kInserted, "a disk");
    const uint32_t device = (uint32_t)__builtin_ctz(slots) * 8;
    if ((in32(kEject) & slots) != slots || (in16(kGpeStatus) & 2) == 0) {
        verdict_fail(kName, "slots %x came without being there or without an event",
                     (uint64_t)slots);
    }
    out32(kInserted, slots);
    if (pci_read32(device, 0) != 0x10421af4 || pci_read32(device, 0x10) >> 4 != 0) {
        verdict_fail(kName, "slot %u holds %x with a BAR at %x", (uint64_t)device / 8,
                     (uint64_t)pci_read32(device, 0), (uint64_t)pci_read32(device, 0x10));
    }
    pci_write32(device, 0x10, 0xd0000000);  // the guest places it in the window
    pci_write32(device, 0x14, 0);
    Block block;
    if (!block_open(&block, 1)) {
        verdict_fail(kName, "the new disk does not answer");
    }
    if (block_request(&block, kBlockIn, 0, kSector) != 0 || block.data[0] != 'h') {
        verdict_fail(kName, "the new disk reads %x", (uint64_t)block.data[0]);
    }
    print("micro: hotplug disk read, waiting to let go\n");
    const uint32_t wanted = wait_register(kRemoving, "a removal");
    if (option("ignore")) {
        print("micro: hotplug ignores it\n");
        while (in32(kRemoving) != 0) {
            wait_us(1000);
        }
        print("micro: hotplug saw it withdrawn\n");
    }
    out32(kRemoving, wanted);
    out32(kEject, wanted);
    for (int i = 0; i < kPatience && pci_read32(device, 0) != 0xffffffff; i++) {
        wait_us(1000);
    }
    if (pci_read32(device, 0) != 0xffffffff || *(volatile uint32_t*)0xd0000000 != 0xffffffff) {
        verdict_fail(kName, "an ejected disk is still there");
    }
    print("micro: hotplug disk gone\n");
}

static void start_processor(void) {
    ap_alive = 0;
    ap_stack = (uint64_t)(uintptr_t)allocate(8192, 4096) + 8192;
    memcpy((void*)kTrampoline, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
    lapic_write(kIcrHigh, 1u << 24);
    lapic_write(kIcrLow, 0x4500);  // INIT
    wait_us(10000);
    for (int i = 0; i < 2 && !ap_alive; i++) {
        lapic_write(kIcrHigh, 1u << 24);
        lapic_write(kIcrLow, 0x4600 | kTrampoline >> 12);  // SIPI
        for (int j = 0; j < 1000 && !ap_alive; j++) {
            wait_us(1000);
        }
    }
}

static void take_processor(void) {
    uint32_t cpu = ~0u;
    for (int i = 0; i < kPatience && cpu == ~0u; i++) {
        wait_us(1000);
        cpu = in32(kCpuNext);
    }
    out32(kCpuSelect, cpu);
    if (cpu != 1 || (in8(kCpuStatus) & kCpuInserted) == 0) {
        verdict_fail(kName, "processor %x came with status %x", (uint64_t)cpu,
                     (uint64_t)in8(kCpuStatus));
    }
    out8(kCpuStatus, kCpuInserted);
    start_processor();
    if (!ap_alive) {
        verdict_fail(kName, "the new processor does not start");
    }
}

static void processor(void) {
    start_processor();
    if (ap_alive) {
        verdict_fail(kName, "a processor that is not there runs");
    }
    print("micro: hotplug wants a processor\n");
    take_processor();
    print("micro: hotplug processor runs\n");
    out32(kCpuSelect, 1);
    for (int i = 0; i < kPatience && (in8(kCpuStatus) & kCpuRemoving) == 0; i++) {
        wait_us(1000);
    }
    out8(kCpuStatus, kCpuRemoving);
    out8(kCpuStatus, kCpuEject);
    print("micro: hotplug processor let go\n");
    take_processor();
    print("micro: hotplug processor runs again\n");
}

static void abuse(void) {
    const uint32_t pvpanic = pci_read32(8, 0);
    for (uint32_t i = 0; i < 2000; i++) {
        const uint16_t port = (uint16_t)(0x620 + i * 7 % 0x60);
        out32(kCpuSelect, i * 2654435761u);
        out8(kCpuStatus, (uint8_t)i);
        if (port < 0x630 || port >= 0x640) {  // between them is another device's
            out8(port, (uint8_t)(i * 13));
            out16(port, (uint16_t)(i * 1031));
            out32(port, i * 2654435761u);
        }
        out32(kEject, ~0u);
        (void)in32(port);
    }
    if (pci_read32(8, 0) != pvpanic || pvpanic == 0xffffffff) {
        verdict_fail(kName, "a part of the board was ejected");
    }
}

int main(void) {
    interrupts_init();
    if (!option("nodisk")) {
        disk();
    }
    if (option("processor")) {
        processor();
    }
    abuse();
    verdict_ok(kName, "survived");
}
