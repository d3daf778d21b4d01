// Garbage for every device: a generator writes numbers without sense to the registers of each chip
// and each PCI function, to the configuration of each virtio device, and hostile chains to each of
// its queues, after which it must serve. The table below is the list of what a guest can reach;
// after each line the clock must still tick and the serial line print. `seed=` chooses the garbage.
// What stops or resets the machine is left out: storms.c does that.
#include "attack.h"
#include "serve.h"

static const char kName[] = "garbage";
enum { kWritesDefault = 400, kConfigWrites = 64, kQueuesMax = 8, kQueueSize = 16, kPicMask = 0x21 };

static uint64_t state;

static uint32_t next(void) {  // xorshift64
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static void port_write(uint16_t port, uint32_t width, uint32_t value) {
    switch (width) {
        case 1: out8(port, (uint8_t)value); break;
        case 2: out16(port, (uint16_t)value); break;
        default: out32(port, value); break;
    }
}

static void port_read(uint16_t port, uint32_t width) {
    switch (width) {
        case 1: (void)in8(port); break;
        case 2: (void)in16(port); break;
        default: (void)in32(port); break;
    }
}

static void memory_access(volatile uint8_t* at, uint32_t kind, uint32_t value) {
    switch (kind % 8) {
        case 0: *at = (uint8_t)value; break;
        case 1: *(volatile uint16_t*)at = (uint16_t)value; break;
        case 2: *(volatile uint32_t*)at = value; break;
        case 3: *(volatile uint64_t*)at = (uint64_t)value << 32 | value; break;
        case 4: (void)*at; break;
        case 5: (void)*(volatile uint16_t*)at; break;
        case 6: (void)*(volatile uint32_t*)at; break;
        default: (void)*(volatile uint64_t*)at; break;
    }
}

// --- Chips at I/O ports ---

typedef struct {
    const char* name;
    uint16_t first, count;
    // Whether this write would stop or reset the machine, which is its right.
    bool (*ends)(uint16_t port, uint32_t width, uint32_t value);
} Chip;

static bool i8042_ends(uint16_t port, uint32_t width, uint32_t value) {
    (void)width;
    // The pulses 0xf0 to 0xff, and the output port's reset bit, which command 0xd1 asks for.
    return port != 0x60 ? (value & 0xf0) == 0xf0 || (value & 0xff) == 0xd1 : false;
}

static bool pm_ends(uint16_t port, uint32_t width, uint32_t value) {
    (void)value;  // SLP_EN of PM1_CNT, the reset register and what straddles them
    return port + width > 0x604;
}

static bool port92_ends(uint16_t port, uint32_t width, uint32_t value) {
    (void)width;
    return port <= 0x92 && (value & 1) != 0;
}

static const Chip kChips[] = {
    {"rtc", 0x70, 2, NULL},           {"i8042", 0x60, 5, i8042_ends},
    {"port92", 0x92, 1, port92_ends}, {"post", 0x80, 1, NULL},
    {"smi", 0xb2, 2, NULL},           {"pit", 0x40, 4, NULL},
    {"pic-master", 0x20, 2, NULL},    {"pic-slave", 0xa0, 2, NULL},
    {"elcr", 0x4d0, 2, NULL},         {"debugcon", 0x402, 1, NULL},
    {"port-e9", 0xe9, 1, NULL},       {"fw-cfg", 0x510, 12, NULL},
    {"acpi-pm", 0x600, 12, pm_ends},  {"gpe", 0x620, 16, NULL},
    {"cpu-hotplug", 0x660, 16, NULL}, {"nothing", 0x5000, 256, NULL},
};
static const Chip kPciHotplug = {"pci-hotplug", 0x640, 16, NULL};  // takes cards and disks away

static void chip_garbage(const Chip* chip, uint64_t writes) {
    for (uint64_t i = 0; i < writes; i++) {
        const uint16_t port = (uint16_t)(chip->first + next() % chip->count);
        const uint32_t width = 1u << next() % 3;
        const uint32_t value = next();
        if (next() % 3 == 0) {
            port_read(port, width);
        } else if (chip->ends == NULL || !chip->ends(port, width, value)) {
            port_write(port, width, value);
        }
    }
}

// Its registers, the scratch one too; then a sane line again, or nobody would hear of the rest.
static void serial_garbage(uint64_t writes) {
    for (uint64_t i = 0; i < writes; i++) {
        const uint16_t port = (uint16_t)(0x3f8 + next() % 8);
        next() % 3 == 0 ? port_read(port, 1) : out8(port, (uint8_t)next());
    }
    out8(0x3fb, 0x03);
    out8(0x3f9, 0);
    out8(0x3fa, 0);
    out8(0x3fc, 0);
}

static void apic_garbage(uint64_t writes) {
    for (uint64_t i = 0; i < writes; i++) {  // the I/O APIC's index and window
        *(volatile uint32_t*)0xfec00000ul = next() & 0xff;
        *(volatile uint32_t*)0xfec00010ul = next() | 1u << 16;  // but masked
    }
    for (uint64_t i = 0; i < writes; i++) {  // and the local one's: no INIT to ourselves
        const uint32_t offset = next() & 0xff0;
        if (offset != 0x300) {
            memory_access((volatile uint8_t*)0xfee00000ul + offset, 2 + (next() & 4), next());
        }
    }
}

// --- PCI functions ---

static void config_garbage(uint32_t function) {
    uint32_t saved[64];
    for (uint32_t i = 0; i < 64; i++) {
        saved[i] = pci_read32(function, i * 4);
    }
    for (uint32_t i = 0; i < kConfigWrites; i++) {
        pci_write32(function, next() & 0xfc, next());
    }
    for (uint32_t i = 64; i-- > 0;) {  // the command last, when the BARs are back
        pci_write32(function, i * 4, saved[i]);
    }
}

// The watchdog hears only who writes two words first; both of its stages run meanwhile.
static const uint32_t kWatchdogId = 0x25ab8086;
enum { kWatchdogReload = 12, kWatchdogConfig = 0x60, kWatchdogLock = 0x68 };

static void watchdog_garbage(uint32_t function, uint64_t writes) {
    volatile uint8_t* at = (volatile uint8_t*)(uintptr_t)pci_map_bar(function, 0);
    pci_write32(function, kWatchdogConfig, 4);
    for (uint64_t i = 0; at != NULL && i < writes; i++) {
        pci_write32(function, kWatchdogLock, next() % 4 == 0 ? 0 : 6);
        *(volatile uint16_t*)(at + kWatchdogReload) = 0x80;
        *(volatile uint16_t*)(at + kWatchdogReload) = 0x86;
        memory_access(at + next() % 16, next(), next());
    }
    pci_write32(function, kWatchdogLock, 0);
}

static void bar_garbage(uint32_t function, uint64_t writes) {
    for (uint32_t bar = 0; bar < 6; bar++) {
        const uint32_t low = pci_read32(function, 0x10 + 4 * bar);
        const uint64_t base = (low & ~0xfu) != 0 && (low & 1) == 0 ? pci_map_bar(function, bar) : 0;
        for (uint64_t i = 0; base != 0 && i < writes; i++) {
            memory_access((volatile uint8_t*)(uintptr_t)base + (next() & 0xfff), next(), next());
        }
        bar += (low & 6) == 4 ? 1 : 0;  // a 64-bit one takes two
    }
}

// --- Virtio devices ---

static Virtio device;
static Queue queues[kQueuesMax];
static uint16_t queue_count;

static bool set_up(uint64_t features) {
    if (!virtio_begin(&device, features)) {
        return false;
    }
    for (uint16_t i = 0; i < queue_count; i++) {
        if (!virtio_queue(&device, &queues[i], i, kQueueSize)) {
            return false;
        }
    }
    virtio_go(&device);
    return true;
}

static Queue* restart(uint16_t index) {
    return set_up(~0ull) ? &queues[index] : NULL;
}

// What each type wants of its configuration is nonsense to it; what comes back must be a device.
static void virtio_garbage(uint64_t writes) {
    for (uint64_t i = 0; i < writes; i++) {
        volatile uint8_t* const places[] = {device.common, device.common, device.config,
                                            device.notify};
        volatile uint8_t* at = places[next() % 4];
        if (at != NULL) {
            memory_access(at + next() % 64, next(), next());
        }
    }
}

static uint64_t virtio_attacks(const char* name) {
    memset(queues, 0, sizeof queues);
    virtio_begin(&device, ~0ull);
    queue_count = common_read16(&device, kCommonNumQueues);
    queue_count = queue_count < kQueuesMax ? queue_count : kQueuesMax;
    uint64_t count = 0;
    for (uint16_t i = 0; i < queue_count; i++) {
        count += attack_queue(name, i, restart);
    }
    return count;
}

static uint64_t check_serves(void) {
    uint64_t served = 0;
    const char* failure = set_up(0) ? serve(&device, queues, &served) : "it cannot be set up";
    if (failure != NULL) {
        verdict_fail(kName, "virtio type %u after the attacks: %s", (uint64_t)device.type, failure);
    }
    return served;
}

static void check_alive(const char* after) {
    const uint64_t begun = rdtsc();
    wait_us(10);
    if (rdtsc() <= begun || pci_read32(0, 0) == ~0u) {
        verdict_fail(kName, "nothing answers after %s", after);
    }
}

static void chip_attack(const Chip* chip, uint64_t writes) {
    print("micro: garbage for %s\n", chip->name);
    chip_garbage(chip, writes);
    out8(kPicMask, 0xff);
    out8(kPicMask + 0x80, 0xff);
    check_alive(chip->name);
}

int main(void) {
    state = 0x9e3779b97f4a7c15ull ^ option_number("seed=", 1);
    const uint64_t writes = option_number("writes=", kWritesDefault);
    uint64_t places = 0, attacks = 0, served = 0;
    (void)tsc_per_us();  // while the clocks tell the truth
    print("\nmicro: garbage begins\n");
    for (size_t i = 0; i < sizeof kChips / sizeof kChips[0]; i++) {
        chip_attack(&kChips[i], writes);
        places++;
    }
    serial_garbage(writes);
    print("\nmicro: garbage for serial is over\n");
    for (uint32_t at = 0; at < kPciFunctions; at = pci_next(at)) {
        const uint32_t id = pci_read32(at, 0);
        if (id == ~0u) {
            continue;
        }
        print("micro: garbage for function %x id %x\n", (uint64_t)at, (uint64_t)id);
        bar_garbage(at, writes);
        if (id == kWatchdogId) {
            watchdog_garbage(at, writes);
        }
        config_garbage(at);
        check_alive("a PCI function");
        places++;
    }
    for (uint32_t type = 1; type < 32; type++) {
        for (uint32_t nth = 0; virtio_find(&device, type, nth); nth++) {
            print("micro: garbage for virtio type %u\n", (uint64_t)type);
            virtio_garbage(writes);
            virtio_reset(&device);
            attacks += option("noqueues") ? 0 : virtio_attacks(kName);
            served += option("noqueues") ? 0 : check_serves();
            virtio_reset(&device);
            places++;
        }
    }
    chip_attack(&kPciHotplug, writes);
    apic_garbage(writes);
    check_alive("the APICs");
    verdict_ok(kName, "places=%u attacks=%u served=%u", places + 3, attacks, served);
}
