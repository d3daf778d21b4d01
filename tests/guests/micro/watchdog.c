// The i6300esb watchdog and pvpanic. `expire`: lets the watchdog run out and waits for what the
// host does. `panic`: reports a panic, with `wait` once a byte came on the serial line. Else: keeps
// it alive, then writes nonsense into every register.
#include "pci.h"

static const char kName[] = "watchdog";
static const uint32_t kWatchdogId = 0x25ab8086, kPvPanicId = 0x00111b36;
enum { kConfig = 0x60, kLock = 0x68, kReload = 12, kTimedOut = 1 << 9 };

static volatile uint8_t* registers;
static uint32_t watchdog;

static uint32_t find(uint32_t id) {
    for (uint32_t at = 0; at < kPciFunctions; at = pci_next(at)) {
        if (pci_read32(at, 0) == id) {
            return at;
        }
    }
    verdict_fail(kName, "no PCI function %x", (uint64_t)id);
}

static void write_register(uint32_t offset, uint32_t value) {
    *(volatile uint16_t*)(registers + kReload) = 0x80;
    *(volatile uint16_t*)(registers + kReload) = 0x86;
    if (offset == kReload) {
        *(volatile uint16_t*)(registers + offset) = (uint16_t)value;
    } else {
        *(volatile uint32_t*)(registers + offset) = value;
    }
}

static void start(uint32_t ticks) {
    pci_write32(watchdog, kConfig, 3);
    write_register(0, ticks);
    write_register(4, ticks);
    pci_write32(watchdog, kLock, 2);
}

static void nonsense(void) {
    const uint32_t patterns[] = {0xffffffffu, 0, 0x5a5a5a5au, 0x00000086, 0x80};
    for (uint32_t pattern = 0; pattern < 5; pattern++) {
        for (uint32_t offset = 0; offset < 16; offset++) {
            registers[offset] = (uint8_t)patterns[pattern];
            *(volatile uint32_t*)(registers + offset) = patterns[pattern];
            *(volatile uint64_t*)(registers + offset) = ~0ull;
            (void)*(volatile uint64_t*)(registers + offset);
        }
        for (uint32_t offset = 0x40; offset < 0x100; offset += 4) {
            pci_write32(watchdog, offset, patterns[pattern] & ~2u);
            (void)pci_read32(watchdog, offset);
        }
    }
    for (uint32_t i = 0; i < 2000; i++) {  // on and off as fast as it goes
        pci_write32(watchdog, kLock, i % 2 * 2);
    }
    pci_write32(watchdog, kLock, 0);
}

static void panic(volatile uint8_t* notifier) {
    if ((*notifier & 1) == 0) {
        verdict_fail(kName, "pvpanic does not know of panics: %x", (uint64_t)*notifier);
    }
    for (uint32_t i = 0; i < 16; i++) {
        notifier[i + 1] = 1;
    }
    notifier[0] = 0xfc;
    if (option("panic")) {
        for (uint32_t i = 0; i < 1000; i++) {
            notifier[0] = 3;
        }
    }
}

int main(void) {
    watchdog = find(kWatchdogId);
    registers = (volatile uint8_t*)pci_map_bar(watchdog, 0);
    volatile uint8_t* notifier = (volatile uint8_t*)pci_map_bar(find(kPvPanicId), 0);
    if ((*(volatile uint16_t*)(registers + kReload) & kTimedOut) != 0) {
        verdict_ok(kName, "was reset");
    }
    if (option("expire")) {
        start(256);
        print("\nmicro: watchdog armed\n");
        wait_us(30000000);
        verdict_fail(kName, "nothing happened for 30 s");
    }
    if (option("wait")) {  // for a line, so that the test listens before anything happens
        while ((in8(0x3fd) & 1) == 0) {
            pause_once();
        }
    }
    panic(notifier);
    start(1024);
    for (uint32_t i = 0; i < 20; i++) {  // two seconds in all unless it is kept alive
        wait_us(200000);
        write_register(kReload, 1 << 8);
    }
    pci_write32(watchdog, kLock, 0);
    nonsense();
    verdict_ok(kName, "survived");
}
