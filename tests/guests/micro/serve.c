#include "serve.h"

#include "block.h"

enum {
    kTypeScsi = 8,
    kPatienceUs = 10000000,
    kHeader = 12,  // of a frame
    kArpSize = 42,
    kFrame = 1526,
    kFrames = 4,  // receive buffers
    kFramesMax = 64,
    kCdBlock = 2048,
};

typedef struct {
    void* at;
    uint32_t size;
    uint16_t flags;
} Part;

static uint8_t* memory;  // 64 KiB, the same for each request

static bool request(Queue* queue, const Part* parts, uint16_t count, UsedElement* element) {
    for (uint16_t i = 0; i < count; i++) {
        const bool last = i + 1 == count;
        queue_set(queue, i, parts[i].at, parts[i].size, parts[i].flags | (last ? 0 : kDescNext),
                  last ? 0 : i + 1);
    }
    queue_offer(queue, 0);
    queue_notify(queue);
    return queue_wait(queue, element, kPatienceUs) && element->id == 0;
}

static bool disk_request(Queue* queue, uint32_t type, uint16_t data_flags) {
    BlockHeader* header = (BlockHeader*)(memory + 4096);
    uint8_t* status = memory + 8192;
    *header = (BlockHeader){type, 0, 3};
    *status = 255;
    const Part parts[] = {
        {header, sizeof *header, 0}, {memory, kSector, data_flags}, {status, 1, kDescWrite}};
    UsedElement element;
    return request(queue, parts, 3, &element) && *status == 0;
}

static const char* serve_disk(Queue* queues) {
    memset(memory, 0x5a, kSector);
    if (!disk_request(queues, kBlockOut, 0)) {
        return "a sector is not written";
    }
    memset(memory, 0, kSector);
    if (!disk_request(queues, kBlockIn, kDescWrite)) {
        return "a sector is not read";
    }
    return memory[0] == 0x5a && memory[kSector - 1] == 0x5a ? NULL : "a sector reads differently";
}

static const char* serve_rng(Queue* queues) {
    const Part part = {memory, 64, kDescWrite};
    UsedElement element;
    if (!request(queues, &part, 1, &element) || element.length == 0 || element.length > 64) {
        return "no random bytes";
    }
    for (uint32_t i = 0; i < element.length; i++) {
        if (memory[i] != 0) {
            return NULL;
        }
    }
    return "random bytes are all zero";
}

// The host side of the test has the console's socket and looks for this line.
static const char* serve_console(Queue* queues) {
    static const char kLine[] = "micro: the console serves\n";
    memcpy(memory, kLine, sizeof kLine - 1);
    const Part part = {memory, sizeof kLine - 1, 0};
    UsedElement element;
    return request(&queues[1], &part, 1, &element) ? NULL : "bytes are not taken";
}

// Who has 10.78.0.1? The host's end of the wire has, and says so.
static const char* serve_card(Virtio* device, Queue* queues) {
    static const uint8_t kRequest[kArpSize] = {
        255, 255, 255, 255, 255, 255, 0, 0,  0,  0, 0, 0, 8, 6, 0, 1, 8, 0,  6,  4, 0,
        1,   0,   0,   0,   0,   0,   0, 10, 78, 0, 2, 0, 0, 0, 0, 0, 0, 10, 78, 0, 1};
    for (uint16_t i = 0; i < kFrames; i++) {
        queue_set(&queues[0], i, memory + 8192 * (i + 1), kHeader + kFrame, kDescWrite, 0);
        queue_offer(&queues[0], i);
    }
    queue_notify(&queues[0]);
    memset(memory, 0, kHeader);
    memcpy(memory + kHeader, kRequest, kArpSize);
    for (uint32_t i = 0; i < 6; i++) {
        memory[kHeader + 6 + i] = memory[kHeader + 22 + i] = device->config[i];
    }
    const Part part = {memory, kHeader + kArpSize, 0};
    UsedElement element;
    if (!request(&queues[1], &part, 1, &element)) {
        return "a frame is not sent";
    }
    for (uint32_t i = 0; i < kFramesMax; i++) {  // the host has frames of its own to send
        if (!queue_wait(&queues[0], &element, kPatienceUs) || element.id >= kFrames) {
            break;
        }
        const uint8_t* frame = memory + 8192 * (element.id + 1) + kHeader;
        if (element.length >= kHeader + kArpSize && frame[12] == 8 && frame[13] == 6 &&
            frame[21] == 2 && memcmp(frame + 28, kRequest + 38, 4) == 0) {
            return NULL;
        }
        queue_offer(&queues[0], (uint16_t)element.id);
        queue_notify(&queues[0]);
    }
    return "no answer from the wire";
}

// READ(10) of the first block of target 0, which is the first CD-ROM. Unit attentions come first.
static const char* serve_scsi(Queue* queues) {
    uint8_t* command = memory + 4096;
    uint8_t* response = memory + 8192;
    const Part parts[] = {
        {command, 51, 0}, {response, 108, kDescWrite}, {memory, kCdBlock, kDescWrite}};
    for (int i = 0; i < 4; i++) {
        memset(command, 0, 51);
        command[0] = 1;
        command[2] = 0x40;
        command[19] = 0x28;
        command[19 + 8] = 1;
        memset(response, 0xff, 108);
        UsedElement element;
        if (!request(&queues[2], parts, 3, &element)) {
            return "no answer";
        }
        if (response[10] == 0 && response[11] == 0) {  // status, response
            return NULL;
        }
    }
    return "a block is not read";
}

const char* serve(Virtio* device, Queue* queues, uint64_t* served) {
    if (memory == NULL) {
        memory = allocate(65536, 4096);
    }
    *served += 1;
    switch (device->type) {
        case kVirtioNet: return serve_card(device, queues);
        case kVirtioBlock: return serve_disk(queues);
        case kVirtioConsole: return serve_console(queues);
        case kVirtioRng: return serve_rng(queues);
        case kTypeScsi: return serve_scsi(queues);
        default: *served -= 1; return NULL;
    }
}
