// virtio-net's control queue: every command of the specification, then attacks on it and on the
// other queues.
#include "attack.h"

static const char kName[] = "netctl";
static const uint64_t kFeatures =
    1u << 5 | 1u << 17 | 1u << 18 | 1u << 19 | 1u << 20 | 1u << 21 | 1u << 22 | 1u << 23;
enum { kQueuesMax = 9 };

static Virtio device;
static Queue queues[kQueuesMax];
static uint16_t control;
static uint8_t* command;

static Queue* restart(uint16_t index) {
    if (!virtio_begin(&device, kFeatures)) {
        return NULL;
    }
    for (uint16_t i = 0; i <= control; i++) {
        if (!virtio_queue(&device, &queues[i], i, 16)) {
            return NULL;
        }
    }
    virtio_go(&device);
    return &queues[index];
}

static uint8_t run(uint8_t kind, uint8_t code, const void* data, uint32_t size) {
    UsedElement element;
    command[0] = kind;
    command[1] = code;
    memcpy(command + 2, data, size);
    command[64] = 0xee;
    queue_set(&queues[control], 0, command, 2 + size, kDescNext, 1);
    queue_set(&queues[control], 1, command + 64, 1, kDescWrite, 0);
    queue_offer(&queues[control], 0);
    queue_notify(&queues[control]);
    if (!queue_wait(&queues[control], &element, 5000000)) {
        verdict_fail(kName, "command %u.%u is not answered", (uint64_t)kind, (uint64_t)code);
    }
    return command[64];
}

static void expect(uint8_t answer, uint8_t kind, uint8_t code, const void* data, uint32_t size) {
    const uint8_t got = run(kind, code, data, size);
    if (got != answer) {
        verdict_fail(kName, "command %u.%u: %u", (uint64_t)kind, (uint64_t)code, (uint64_t)got);
    }
}

int main(void) {
    if (!virtio_find(&device, kVirtioNet, 0) || device.config == NULL) {
        verdict_fail(kName, "no virtio-net device");
    }
    const uint16_t pairs = *(volatile uint16_t*)(device.config + 8);
    control = (uint16_t)(pairs > 1 ? 2 * pairs : 2);
    command = allocate(128, 16);
    if (control >= kQueuesMax || restart(0) == NULL) {
        verdict_fail(kName, "%u pairs of queues do not work", (uint64_t)pairs);
    }
    const uint8_t off = 0;
    const uint8_t tables[8] = {0};
    const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};
    const uint16_t vlan = 100, too_many = (uint16_t)(pairs + 1);
    for (uint8_t mode = 0; mode < 6; mode++) {
        expect(0, 0, mode, &off, 1);
    }
    expect(0, 1, 0, tables, 8);
    expect(0, 1, 1, mac, 6);
    if (device.config[5] != 3) {
        verdict_fail(kName, "the address did not change");
    }
    expect(0, 2, 0, &vlan, 2);
    expect(0, 3, 0, &vlan, 0);
    expect(pairs > 1 ? 0 : 1, 4, 0, &pairs, 2);
    expect(1, 4, 0, &too_many, 2);
    expect(1, 77, 0, &vlan, 2);
    uint64_t attacks = 0;
    for (uint16_t i = 0; i <= control; i++) {
        attacks += attack_queue(kName, i, restart);
    }
    verdict_ok(kName, "pairs=%u attacks=%u", (uint64_t)pairs, attacks);
}
