// virtio-scsi: a disk is found, written, read back, trimmed, refuses what it must, and comes
// through hostile commands and queues. "target=N": where the disk is (0). "hotplug": then a disk
// comes at another target, is read, grows and goes, as the event queue tells.
#include "attack.h"

static const char kName[] = "scsi";
enum {
    kTypeScsi = 8,
    kCdbSize = 32,
    kSenseSize = 96,
    kBlock = 512,
    kData = 65536,
    kGood = 0,
    kCheckCondition = 2,
    kOverrun = 1 << 8,
    kBadTarget = 3 << 8,
    kNoAnswer = 0xffff,
};
static const uint64_t kFeatureEvents = 6;  // hot-plug, change

typedef struct {
    uint8_t lun[8];
    uint8_t id[8];
    uint8_t attributes[3];
    uint8_t cdb[kCdbSize];
} __attribute__((packed)) Request;
typedef struct {
    uint32_t sense_length, residual;
    uint16_t qualifier;
    uint8_t status, response;
    uint8_t sense[kSenseSize];
} __attribute__((packed)) Response;
typedef struct {
    uint32_t event;
    uint8_t lun[8];
    uint32_t reason;
} Event;

static Virtio device;
static Queue queues[3];  // control, events, requests
static Request* request;
static Response* response;
static Event* event;
static uint8_t* data;
static uint8_t target;
static uint64_t patience_us = 10000000;

static bool restart_all(void) {
    if (!virtio_begin(&device, kFeatureIndirect | kFeatureEvents)) {
        return false;
    }
    for (uint16_t i = 0; i < 3; i++) {
        if (!virtio_queue(&device, &queues[i], i, 16)) {
            return false;
        }
    }
    virtio_go(&device);
    return true;
}

static Queue* restart(uint16_t index) {
    return restart_all() ? &queues[index] : NULL;
}

// Status, and the response of the controller above it.
static uint32_t scsi(const uint8_t* cdb, uint32_t cdb_size, uint32_t out, uint32_t in) {
    memset(request, 0, sizeof *request);
    request->lun[0] = 1;
    request->lun[1] = target;
    request->lun[2] = 0x40;
    memcpy(request->cdb, cdb, cdb_size);
    memset(response, 0xff, sizeof *response);
    Queue* queue = &queues[2];
    queue_set(queue, 0, request, sizeof *request, kDescNext, out != 0 ? 1 : 2);
    queue_set(queue, 1, data, out, kDescNext, 2);
    queue_set(queue, 2, response, sizeof *response, kDescWrite | (in != 0 ? kDescNext : 0), 3);
    queue_set(queue, 3, data, in, kDescWrite, 0);
    queue_offer(queue, 0);
    queue_notify(queue);
    UsedElement element;
    if (!queue_wait(queue, &element, patience_us)) {
        return kNoAnswer;
    }
    return response->status | (uint32_t)response->response << 8;
}
#define SCSI(out, in, ...) \
    scsi((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), out, in)

static void expect(uint32_t got, uint32_t wanted, const char* what) {
    if (got != wanted) {
        verdict_fail(
            kName, "%s: %x, not %x, sense %x", what, (uint64_t)got, (uint64_t)wanted,
            (uint64_t)(response->sense[2] << 16 | response->sense[12] << 8 | response->sense[13]));
    }
}

static void expect_sense(uint32_t got, uint32_t sense, const char* what) {
    expect(got, kCheckCondition, what);
    if ((uint32_t)(response->sense[12] << 8 | response->sense[13]) != sense) {
        expect(0, sense, what);
    }
}

static void fill(uint32_t seed) {
    for (uint32_t i = 0; i < 16 * kBlock / 8; i++) {
        ((uint64_t*)data)[i] = seed * 2654435761ull + i;
    }
}

static uint32_t find_disk(void) {
    uint32_t status = kNoAnswer;
    for (int i = 0; i < 3; i++) {  // a unit attention comes first
        status = SCSI(0, 0, 0x00);
        if (status != kCheckCondition) {
            break;
        }
    }
    return status;
}

static uint32_t last_block(void) {
    expect(SCSI(0, 8, 0x25), kGood, "read capacity");
    return (uint32_t)data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3];
}

static void test_transfers(uint32_t last) {
    const uint8_t at[2] = {(uint8_t)((last - 15) >> 8), (uint8_t)(last - 15)};
    fill(7);
    expect(SCSI(16 * kBlock, 0, 0x2a, 0, 0, 0, at[0], at[1], 0, 0, 16), kGood, "write");
    fill(9);
    expect(SCSI(16 * kBlock, 0, 0x2a, 8, 0, 0, 0, 0, 0, 0, 16), kGood, "write, force unit access");
    expect(SCSI(0, 0, 0x35), kGood, "synchronize cache");
    memset(data, 0, 16 * kBlock);
    expect(SCSI(0, 16 * kBlock, 0x28, 0, 0, 0, at[0], at[1], 0, 0, 16), kGood, "read");
    for (uint32_t i = 0; i < 16 * kBlock / 8; i++) {
        if (((uint64_t*)data)[i] != 7 * 2654435761ull + i) {
            verdict_fail(kName, "word %u reads back differently", (uint64_t)i);
        }
    }
    memset(data, 0, kBlock);
    expect(SCSI(kBlock, 0, 0x41, 8, 0, 0, 0, 0, 0, 0, 8), kGood, "write same with unmap");
    data[0] = 1;
    expect(SCSI(0, 8 * kBlock, 0x28, 0, 0, 0, 0, 0, 0, 0, 8), kGood, "read zeroes");
    for (uint32_t i = 0; i < 8 * kBlock; i++) {
        if (data[i] != 0) {
            verdict_fail(kName, "zeroed byte %u is not zero", (uint64_t)i);
        }
    }
    static const uint8_t kUnmap[24] = {0, 22, 0, 16, 0, 0,  0, 0, 0, 0,
                                       0, 0,  0, 0,  0, 32, 0, 0, 0, 8};
    memcpy(data, kUnmap, sizeof kUnmap);
    expect(SCSI(24, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 24), kGood, "unmap");
}

static void test_refusals(uint32_t last) {
    const uint32_t end = last + 1;
    expect_sense(SCSI(0, kBlock, 0x28, 0, (uint8_t)(end >> 24), (uint8_t)(end >> 16),
                      (uint8_t)(end >> 8), (uint8_t)end, 0, 0, 1),
                 0x2100, "read at the end");
    expect_sense(SCSI(kBlock, 0, 0x8a, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 1),
                 0x2100, "write far out");
    expect_sense(SCSI(0, 0, 0xf7), 0x2000, "unknown command");
    expect(SCSI(kBlock, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 2), kOverrun, "write without its data");
    const uint8_t mine = target;
    target = 30;
    expect(SCSI(0, 0, 0x00), kBadTarget, "a target that is not there");
    target = mine;
}

// Every command with parameters of all kinds: each is answered, whatever the answer is.
static uint32_t hostile_commands(void) {
    static const uint8_t kFills[] = {0x00, 0x09, 0x7f, 0xff};
    uint32_t commands = 0;
    for (uint32_t opcode = 0; opcode < 256; opcode += option("all") ? 1 : 3) {
        for (uint32_t i = 0; i < sizeof kFills; i++) {
            uint8_t cdb[16];
            memset(cdb, kFills[i], sizeof cdb);
            cdb[0] = (uint8_t)opcode;
            memset(data, kFills[i], 1024);
            if (scsi(cdb, sizeof cdb, i % 2 == 0 ? 0 : 1024, i % 2 == 0 ? 1024 : 0) == kNoAnswer) {
                verdict_fail(kName, "command %x with %x is not answered", (uint64_t)opcode,
                             (uint64_t)kFills[i]);
            }
            ++commands;
        }
    }
    return commands;
}

static void offer_event_buffer(void) {
    queue_set(&queues[1], 0, event, sizeof *event, kDescWrite, 0);
    queue_offer(&queues[1], 0);
    queue_notify(&queues[1]);
}

static void wait_event(uint32_t wanted, uint32_t reason, const char* what) {
    UsedElement element;
    if (!queue_wait(&queues[1], &element, 60000000)) {
        verdict_fail(kName, "no event: %s", what);
    }
    if (event->event != wanted || event->reason != reason) {
        verdict_fail(kName, "%s: event %x reason %x", what, (uint64_t)event->event,
                     (uint64_t)event->reason);
    }
    target = event->lun[1];
    print("\nmicro: scsi event %s target %u", what, (uint64_t)target);
    offer_event_buffer();
}

static void test_hotplug(void) {
    patience_us = 60000000;
    offer_event_buffer();
    print("\nmicro: scsi wants a disk");
    wait_event(1, 1, "rescan");
    expect(find_disk(), kGood, "the new disk");
    const uint32_t before = last_block();
    expect(SCSI(0, kBlock, 0x28, 0, 0, 0, 0, 0, 0, 0, 1), kGood, "read the new disk");
    data[5] = 0;
    print("\nmicro: scsi reads %s, wants it larger", (const char*)data);
    wait_event(3, 0x092a, "capacity");
    expect_sense(SCSI(0, 0, 0x00), 0x2a09, "unit attention");
    if (last_block() <= before) {
        verdict_fail(kName, "the disk has not grown");
    }
    print("\nmicro: scsi wants it gone");
    wait_event(1, 2, "removed");
    expect(SCSI(0, 0, 0x00), kBadTarget, "the disk that is gone");
}

int main(void) {
    target = (uint8_t)option_number("target=", 0);
    if (!virtio_find(&device, kTypeScsi, 0)) {
        verdict_fail(kName, "no virtio-scsi controller");
    }
    request = allocate(sizeof *request, 16);
    response = allocate(sizeof *response, 16);
    event = allocate(sizeof *event, 16);
    data = allocate(kData, 4096);
    if (!restart_all()) {
        verdict_fail(kName, "the controller does not start");
    }
    expect(find_disk(), kGood, "test unit ready");
    expect(SCSI(0, 36, 0x12, 0, 0, 0, 36), kGood, "inquiry");
    data[16 + 4] = 0;
    print("\nmicro: scsi target %u is a %s", (uint64_t)target, (const char*)data + 16);
    const uint32_t last = last_block();
    test_transfers(last);
    test_refusals(last);
    if (option("hotplug")) {
        test_hotplug();
        verdict_ok(kName, "hotplug");
    }
    const uint32_t commands = hostile_commands();
    uint64_t attacks = 0;
    for (uint16_t i = 0; i < 3; i++) {
        attacks += attack_queue(kName, i, restart);
    }
    expect(find_disk(), kGood, "test unit ready after the attacks");
    expect(SCSI(0, kBlock, 0x28, 0, 0, 0, 0, 0, 0, 0, 1), kGood, "read after the attacks");
    verdict_ok(kName, "blocks=%u commands=%u attacks=%u", (uint64_t)last + 1, (uint64_t)commands,
               attacks);
}
