// bochs-display and virtio-input: draws a picture that the test looks at, tells which keys and
// positions come, and attacks registers, BARs and queues while somebody watches.
#include "attack.h"

static const char kName[] = "display";
enum {
    kIds = 0x11111234,
    kWidth = 320,
    kHeight = 200,
    kDispi = 0x500,
    kIndexWidth = 1,
    kIndexHeight = 2,
    kIndexBits = 3,
    kIndexEnable = 4,
    kIndexXOffset = 8,
    kIndexYOffset = 9,
    kIndexCount = 11,
    kEvents = 16,
    kEventSize = 8,
    kTypeKey = 1,
    kTypeAbsolute = 3,
    kKeyQ = 16,
    kKeyA = 30,
};

static uint32_t display;
static volatile uint8_t* video;
static volatile uint8_t* registers;
static Virtio input[2];  // keyboard, tablet
static Queue queues[2][2];
static uint8_t* events[2];
static uint32_t attacked;  // which input device

static void dispi(uint32_t index, uint16_t value) {
    *(volatile uint16_t*)(registers + kDispi + 2 * index) = value;
}

static uint16_t dispi_read(uint32_t index) {
    return *(volatile uint16_t*)(registers + kDispi + 2 * index);
}

static bool find_display(void) {
    for (uint32_t at = 0; at < kPciFunctions; at = pci_next(at)) {
        if (pci_read32(at, 0) == kIds) {
            display = at;
            video = (volatile uint8_t*)pci_map_bar(at, 0);
            registers = (volatile uint8_t*)pci_map_bar(at, 2);
            return video != NULL && registers != NULL && dispi_read(0) == 0xb0c5;
        }
    }
    return false;
}

// A pixel's colour follows from its place: the test knows it, too. Every 8th row is enough.
static void draw(void) {
    dispi(kIndexEnable, 0);
    dispi(kIndexWidth, kWidth);
    dispi(kIndexHeight, kHeight);
    dispi(kIndexBits, 32);
    dispi(kIndexEnable, 1);
    dispi(kIndexXOffset, 0);
    dispi(kIndexYOffset, 0);
    for (uint32_t y = 0; y < kHeight; y += 8) {
        for (uint32_t x = 0; x < kWidth; x++) {
            ((volatile uint32_t*)video)[y * kWidth + x] = y << 16 | (x & 0xff) << 8 | 0x55;
        }
    }
}

static Queue* restart(uint16_t index) {
    Virtio* device = &input[attacked];
    if (!virtio_begin(device, 0)) {
        return NULL;
    }
    for (uint16_t i = 0; i < 2; i++) {
        if (!virtio_queue(device, &queues[attacked][i], i, kEvents)) {
            return NULL;
        }
    }
    virtio_go(device);
    return &queues[attacked][index];
}

static void listen(uint32_t device) {
    attacked = device;
    if (restart(0) == NULL) {
        verdict_fail(kName, "input device %u does not start", (uint64_t)device);
    }
    for (uint16_t i = 0; i < kEvents; i++) {
        queue_set(&queues[device][0], i, events[device] + i * kEventSize, kEventSize, kDescWrite,
                  0);
        queue_offer(&queues[device][0], i);
    }
    queue_notify(&queues[device][0]);
}

// Tells each event. True when the key `last` came up.
static bool tell_events(uint16_t last) {
    bool ended = false;
    for (uint32_t device = 0; device < 2; device++) {
        UsedElement element;
        while (queue_wait(&queues[device][0], &element, 1000)) {
            uint16_t event[4];
            memcpy(event, events[device] + element.id * kEventSize, kEventSize);
            const uint64_t value = event[2] | (uint64_t)event[3] << 16;
            if (event[0] != 0) {
                print("micro: display event %u %u %u\n", (uint64_t)event[0], (uint64_t)event[1],
                      value);
            }
            ended = ended || (event[0] == kTypeKey && event[1] == last && value == 0);
            queue_offer(&queues[device][0], (uint16_t)element.id);
            queue_notify(&queues[device][0]);
        }
    }
    return ended;
}

static void attack_registers(void) {
    static const uint16_t kValues[] = {0, 1, 0x41, 0x7fff, 0x8000, 0xffff, 3, 0x83};
    for (uint32_t index = 0; index < kIndexCount + 2; index++) {
        for (uint32_t i = 0; i < sizeof kValues / sizeof kValues[0]; i++) {
            dispi(index, kValues[i]);
            dispi(kIndexEnable, 0);
            dispi(kIndexEnable, kValues[i] | 1);
            (void)dispi_read(index);
        }
    }
    for (uint32_t at = 0; at < 0x1000; at += 0x7b) {  // every width, aligned or not
        registers[at] = 0xff;
        *(volatile uint16_t*)(registers + at) = 0xffff;
        *(volatile uint32_t*)(registers + at) = ~0u;
        *(volatile uint64_t*)(registers + at) = ~0ull;
        (void)*(volatile uint64_t*)(registers + at);
    }
}

// BARs and ROM over each other, over RAM and over the interrupt controllers.
static void attack_places(void) {
    static const uint32_t kRegisters[] = {0x10, 0x18, 0x30};
    static const uint32_t kPlaces[] = {0,          1,          0x100000,   0xfec00001,
                                       0xfee00001, 0xffffffff, 0xe0000001, 0xd0000001};
    for (uint32_t i = 0; i < 3; i++) {
        const uint32_t before = pci_read32(display, kRegisters[i]);
        for (uint32_t j = 0; j < sizeof kPlaces / sizeof kPlaces[0]; j++) {
            pci_write32(display, kRegisters[i], kPlaces[j]);
        }
        pci_write32(display, kRegisters[i], before);
    }
    for (uint32_t i = 0; i < 50; i++) {
        pci_write32(display, 4, i % 2 == 0 ? 0 : 2);
    }
    pci_write32(display, 4, 6);
}

static uint64_t attack_input(uint32_t device) {
    attacked = device;
    uint64_t count = 0;
    for (uint16_t i = 0; i < 2; i++) {
        count += attack_queue(kName, i, restart);
    }
    for (uint32_t selection = 0; selection < 256; selection++) {
        input[device].config[0] = (uint8_t)selection;
        input[device].config[1] = (uint8_t)(selection * 7);
        (void)input[device].config[2];
        (void)*(volatile uint32_t*)(input[device].config + 132);
    }
    return count;
}

int main(void) {
    if (!find_display()) {
        verdict_fail(kName, "no bochs-display that works");
    }
    if (!virtio_find(&input[0], kVirtioInput, 0) || !virtio_find(&input[1], kVirtioInput, 1)) {
        verdict_fail(kName, "no keyboard and tablet");
    }
    events[0] = allocate(kEvents * kEventSize, 16);
    events[1] = allocate(kEvents * kEventSize, 16);
    draw();
    listen(0);
    listen(1);
    print("micro: display drawn\n");
    while (!tell_events(kKeyQ)) {
    }
    attack_registers();
    attack_places();
    const uint64_t attacks = attack_input(0) + attack_input(1);
    draw();
    listen(0);
    listen(1);
    print("\nmicro: display again\n");
    while (!tell_events(kKeyA)) {
    }
    verdict_ok(kName, "attacks=%u", attacks);
}
