// virtio-mem: takes the blocks that the host wants to give, uses them, gives some back, and finds
// that only what is plugged is memory: for itself and for a device told to write there. Then
// requests that make no sense, and attacks on the queue. The host's side of the conversation is
// tests/integration/hotplug_test.py.
#include "attack.h"

static const char kName[] = "mem";
enum { kPlug, kUnplug, kUnplugAll, kState };
enum { kAck, kNack, kBusy, kError };
enum { kConfigBlockSize = 0, kConfigAddress = 16, kConfigRegion = 24, kConfigPlugged = 40,
       kConfigRequested = 48, kPatience = 30000 };

typedef struct {
    uint16_t type, padding[3];
    uint64_t address;
    uint16_t blocks, padding2[3];
} Request;
typedef struct {
    uint16_t response, padding[3], state;
} Reply;

static Virtio device;
static Queue queue;
static Request* request;
static Reply* reply;

static uint64_t config(uint32_t offset) {
    const uint64_t low = *(volatile uint32_t*)(device.config + offset);
    return low | (uint64_t)*(volatile uint32_t*)(device.config + offset + 4) << 32;
}

static Queue* restart(uint16_t index) {
    (void)index;
    if (!virtio_begin(&device, 3) || !virtio_queue(&device, &queue, 0, 16)) {
        return NULL;
    }
    virtio_go(&device);
    return &queue;
}

static uint16_t ask(uint16_t type, uint64_t address, uint16_t blocks) {
    memset(request, 0, sizeof *request);
    request->type = type;
    request->address = address;
    request->blocks = blocks;
    reply->response = 99;
    queue_set(&queue, 0, request, sizeof *request, kDescNext, 1);
    queue_set(&queue, 1, reply, 10, kDescWrite, 0);
    queue_offer(&queue, 0);
    queue_notify(&queue);
    UsedElement element;
    if (!queue_wait(&queue, &element, 5000000) || element.length != 10) {
        verdict_fail(kName, "request %u of %x is not answered", (uint64_t)type, address);
    }
    return reply->response;
}

static void expect(uint16_t got, uint16_t wanted, const char* what) {
    if (got != wanted) {
        verdict_fail(kName, "%s: answer %u", what, (uint64_t)got);
    }
}

static void wait_requested(uint64_t bytes) {
    for (int i = 0; i < kPatience; i++) {
        if (config(kConfigRequested) == bytes) {
            return;
        }
        wait_us(1000);
    }
    verdict_fail(kName, "the host still wants %x", config(kConfigRequested));
}

static void use(uint64_t base, uint64_t block) {
    volatile uint64_t* first = (volatile uint64_t*)base;
    volatile uint64_t* last = (volatile uint64_t*)(base + 4 * block - 8);
    if (*first != 0 || *last != 0) {
        verdict_fail(kName, "new memory holds %x %x", *first, *last);
    }
    *first = 0x1122334455667788;
    *last = 0x99aabbccddeeff00;
    if (*first != 0x1122334455667788 || *last != 0x99aabbccddeeff00) {
        verdict_fail(kName, "new memory does not keep what is written");
    }
    if (*(volatile uint64_t*)(base + 4 * block) != ~0ull) {
        verdict_fail(kName, "memory that is not plugged answers");
    }
}

// virtio-rng is told to fill memory that is and memory that is not there.
static void device_access(uint64_t base, uint64_t block) {
    static Virtio rng;
    static Queue entropy;
    if (!virtio_find(&rng, kVirtioRng, 0) || !virtio_begin(&rng, 0) ||
        !virtio_queue(&rng, &entropy, 0, 16)) {
        verdict_fail(kName, "no virtio-rng device");
    }
    virtio_go(&rng);
    UsedElement element;
    queue_set(&entropy, 0, (void*)(base + block - 16), 32, kDescWrite, 0);  // over two blocks
    queue_offer(&entropy, 0);
    queue_notify(&entropy);
    if (!queue_wait(&entropy, &element, 5000000) || element.length != 32) {
        verdict_fail(kName, "a device cannot write to plugged memory");
    }
    queue_set(&entropy, 0, (void*)(base + 4 * block - 16), 32, kDescWrite, 0);  // half outside
    queue_offer(&entropy, 0);
    queue_notify(&entropy);
    if (queue_wait(&entropy, &element, 200000) && element.length == 32) {
        verdict_fail(kName, "a device wrote to memory that is not plugged");
    }
    virtio_reset(&rng);
}

static void nonsense(uint64_t base, uint64_t block, uint64_t region) {
    for (uint16_t type = kPlug; type <= kState; type++) {
        if (type == kUnplugAll) {
            continue;
        }
        expect(ask(type, base - block, 1), kError, "in front of the region");
        expect(ask(type, base + 4096, 1), kError, "between blocks");
        expect(ask(type, base, 0), kError, "no block");
        expect(ask(type, base + region - block, 2), kError, "over the end");
        expect(ask(type, base + region, 1), kError, "behind the region");
        expect(ask(type, ~0ull - block + 1, 0xffff), kError, "over the end of addresses");
    }
    expect(ask(77, base, 1), kError, "an unknown request");
}

int main(void) {
    if (!virtio_find(&device, kVirtioMem, 0) || restart(0) == NULL) {
        verdict_fail(kName, "no virtio-mem device that works");
    }
    request = allocate(sizeof *request, 16);
    reply = allocate(sizeof *reply, 16);
    const uint64_t block = config(kConfigBlockSize);
    const uint64_t base = config(kConfigAddress);
    const uint64_t region = config(kConfigRegion);
    map_gib(base);
    expect(ask(kPlug, base, 1), kNack, "more than was requested");
    if (*(volatile uint64_t*)base != ~0ull) {
        verdict_fail(kName, "an empty region answers");
    }
    print("micro: mem wants four blocks of %u\n", block);
    wait_requested(4 * block);
    expect(ask(kPlug, base, 4), kAck, "plugging");
    expect(ask(kPlug, base + 4 * block, 1), kNack, "one more");
    expect(ask(kPlug, base + 3 * block, 1), kError, "plugging twice");
    use(base, block);
    device_access(base, block);
    nonsense(base, block, region);
    print("micro: mem uses them\n");
    if (option("hold")) {
        while (*(volatile uint64_t*)base == 0x1122334455667788) {
            wait_us(1000);
        }
        verdict_fail(kName, "memory changed to %x", *(volatile uint64_t*)base);
    }
    wait_requested(2 * block);
    expect(ask(kUnplug, base + block, 2), kAck, "unplugging");
    expect(ask(kUnplug, base, 4), kError, "unplugging what is not there");
    expect(ask(kState, base, 4), kAck, "asking");
    if (reply->state != 2 || config(kConfigPlugged) != 2 * block ||
        *(volatile uint64_t*)(base + block) != ~0ull ||
        *(volatile uint64_t*)base != 0x1122334455667788) {
        verdict_fail(kName, "after unplugging: state %u, %x bytes", (uint64_t)reply->state,
                     config(kConfigPlugged));
    }
    print("micro: mem gave two back\n");
    const uint64_t attacks = attack_queue(kName, 0, restart);
    if (restart(0) == NULL || config(kConfigPlugged) != 2 * block) {
        verdict_fail(kName, "a reset of the device took memory away");
    }
    expect(ask(kUnplugAll, 0, 0), kAck, "unplugging all");
    if (config(kConfigPlugged) != 0 || *(volatile uint64_t*)base != ~0ull) {
        verdict_fail(kName, "all is unplugged and still there");
    }
    verdict_ok(kName, "attacks=%u", attacks);
}
