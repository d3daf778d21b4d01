// Makes one thing happen as often as it can, for ever: what `storm=` names. The host's side, which
// counts what comes out of it, is tests/integration/hostile_test.py.
//   1 reset  2 triple fault  3 pvpanic  4 watchdog that runs out  5 windows onto RAM and each other
//   6 debug port  7 serial line  8 a virtio device that breaks and is reset
//   9 numbers without sense in the registers of the watchdog and of pvpanic
#include "pci.h"

static const char kName[] = "storms";
static const uint32_t kWatchdogId = 0x25ab8086, kPvPanicId = 0x00111b36, kDisplayId = 0x11111234;
enum { kReload = 12, kLock = 0x68, kConfig = 0x60, kDebugPort = 0x402, kSerialPort = 0x3f8 };

static uint32_t find(uint32_t id) {
    for (uint32_t at = 0; at < kPciFunctions; at = pci_next(at)) {
        if (pci_read32(at, 0) == id) {
            return at;
        }
    }
    verdict_fail(kName, "no PCI function %x", (uint64_t)id);
}

static void triple_fault(void) {
    static const struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } nowhere = {0, 0};
    __asm__ volatile("lidt %0; int3" ::"m"(nowhere));
}

static void panics(void) {
    volatile uint8_t* at = (volatile uint8_t*)(uintptr_t)pci_map_bar(find(kPvPanicId), 0);
    for (;;) {
        *at = 3;
    }
}

static void write_watchdog(volatile uint8_t* registers, uint32_t offset, uint32_t value) {
    *(volatile uint16_t*)(registers + kReload) = 0x80;
    *(volatile uint16_t*)(registers + kReload) = 0x86;
    *(volatile uint32_t*)(registers + offset) = value;
}

// The shortest stages there are, running freely.
static void watchdog(void) {
    const uint32_t at = find(kWatchdogId);
    volatile uint8_t* registers = (volatile uint8_t*)(uintptr_t)pci_map_bar(at, 0);
    write_watchdog(registers, 0, 1);
    write_watchdog(registers, 4, 1);
    pci_write32(at, kConfig, 4);
    pci_write32(at, kLock, 2 | 4);
    for (;;) {
        write_watchdog(registers, kReload, 0x200);
    }
}

// The display's memory onto the first MiB of RAM and away, two cards' doorbells onto each other.
static void windows(void) {
    const uint32_t display = find(kDisplayId);
    const uint32_t home = pci_read32(display, 0x10);
    Virtio first;
    if (!virtio_find(&first, kVirtioBlock, 0)) {
        verdict_fail(kName, "no disk");
    }
    Virtio second;
    if (!virtio_find(&second, kVirtioBlock, 1)) {
        verdict_fail(kName, "no second disk");
    }
    const uint32_t low = pci_read32(first.pci, 0x10), high = pci_read32(first.pci, 0x14);
    const uint32_t own = pci_read32(second.pci, 0x10), own_high = pci_read32(second.pci, 0x14);
    for (;;) {
        pci_write32(display, 0x10, 0x01000000);
        pci_write32(display, 0x10, home);
        pci_write32(second.pci, 0x14, high);
        pci_write32(second.pci, 0x10, low);
        pci_write32(second.pci, 0x14, own_high);
        pci_write32(second.pci, 0x10, own);
    }
}

static void small_chips(void) {
    const uint32_t at = find(kWatchdogId);
    volatile uint8_t* registers = (volatile uint8_t*)(uintptr_t)pci_map_bar(at, 0);
    volatile uint8_t* notifier = (volatile uint8_t*)(uintptr_t)pci_map_bar(find(kPvPanicId), 0);
    pci_write32(at, kConfig, 4);
    for (uint64_t i = 1;; i = i * 6364136223846793005ull + 1442695040888963407ull) {
        const uint32_t value = (uint32_t)(i >> 32);
        write_watchdog(registers, value & 15, value >> 4 & 0x3ff);
        *(volatile uint64_t*)(registers + (value >> 8 & 15)) = i;
        notifier[value >> 12 & 15] = (uint8_t)(value >> 16);
        *(volatile uint64_t*)(notifier + (value >> 12 & 7)) = i;
        pci_write32(at, kLock, value >> 24 & 6);
    }
}

static void port(uint16_t number) {
    for (uint64_t i = 0;; i++) {
        out8(number, i % 16 == 15 ? '\n' : (uint8_t)('a' + i % 16));
    }
}

static void broken(void) {
    static Virtio disk;
    static Queue queue;
    if (!virtio_find(&disk, kVirtioBlock, 0)) {
        verdict_fail(kName, "no disk");
    }
    for (;;) {
        virtio_begin(&disk, 0);
        virtio_queue(&disk, &queue, 0, 16);
        virtio_go(&disk);
        queue_offer(&queue, 0xfff0);
        queue_notify(&queue);
        while ((virtio_status(&disk) & kStatusNeedsReset) == 0) {
            pause_once();
        }
    }
}

int main(void) {
    print("\nmicro: storms begin\n");
    switch (option_number("storm=", 0)) {
        case 1: reset_machine();
        case 2: triple_fault(); break;
        case 3: panics(); break;
        case 4: watchdog(); break;
        case 5: windows(); break;
        case 6: port(kDebugPort); break;
        case 7: port(kSerialPort); break;
        case 8: broken(); break;
        case 9: small_chips(); break;
        default: break;
    }
    verdict_fail(kName, "no such storm");
}
