// virtio-vsock: connects to port 5000 of the host and says hello, echoes one connection of the host
// to port 7 until it ends, then attacks every queue and connects once more.
#include "attack.h"

static const char kName[] = "vsock";
enum {
    kBuffers = 16,
    kBufferSize = 4096,
    kHeaderSize = 44,
    kRequest = 1,
    kResponse = 2,
    kReset = 3,
    kShutdown = 4,
    kData = 5,
    kCreditUpdate = 6,
    kCreditRequest = 7,
    kHostPort = 5000,
    kEchoPort = 7,
    kMyPort = 1025,
    kRoom = 65536,
};

typedef struct __attribute__((packed)) {
    uint64_t source_cid, destination_cid;
    uint32_t source_port, destination_port, length;
    uint16_t type, operation;
    uint32_t flags, buffer_size, forwarded;
} Header;

static Virtio device;
static Queue queues[3];
static uint8_t* buffers[kBuffers];
static Header* outgoing;
static uint64_t cid;
static uint32_t forwarded;

static void offer(uint16_t i) {
    queue_set(&queues[0], i, buffers[i], kBufferSize, kDescWrite, 0);
    queue_offer(&queues[0], i);
}

static Queue* restart(uint16_t index) {
    if (!virtio_begin(&device, 0)) {
        return NULL;
    }
    for (uint16_t i = 0; i < 3; i++) {
        if (!virtio_queue(&device, &queues[i], i, kBuffers)) {
            return NULL;
        }
    }
    virtio_go(&device);
    return &queues[index];
}

static void start(void) {
    if (restart(0) == NULL) {
        verdict_fail(kName, "the device does not start");
    }
    for (uint16_t i = 0; i < kBuffers; i++) {
        buffers[i] = buffers[i] == NULL ? allocate(kBufferSize, 16) : buffers[i];
        offer(i);
    }
    queue_notify(&queues[0]);
}

static void send(uint16_t operation, uint32_t my_port, uint32_t port, const void* data,
                 uint32_t size, uint32_t flags) {
    UsedElement element;
    *outgoing = (Header){cid, 2, my_port, port, size, 1, operation, flags, kRoom, forwarded};
    queue_set(&queues[1], 0, outgoing, kHeaderSize, size > 0 ? kDescNext : 0, 1);
    queue_set(&queues[1], 1, data, size, 0, 0);
    queue_offer(&queues[1], 0);
    queue_notify(&queues[1]);
    if (!queue_wait(&queues[1], &element, 5000000)) {
        verdict_fail(kName, "a packet was not taken");
    }
}

// The next packet; its buffer goes back with done().
static uint16_t current;
static const Header* receive(void) {
    UsedElement element;
    if (!queue_wait(&queues[0], &element, 30000000)) {
        verdict_fail(kName, "nothing came for 30 s");
    }
    current = (uint16_t)element.id;
    return (const Header*)buffers[current % kBuffers];
}
static void done(void) {
    offer(current);
    queue_notify(&queues[0]);
}

static void greet_host(void) {
    static const char kHello[] = "hello from the guest";
    forwarded = 0;
    send(kRequest, kMyPort, kHostPort, NULL, 0, 0);
    const Header* packet = receive();
    if (packet->operation != kResponse || packet->source_port != kHostPort) {
        verdict_fail(kName, "port %u answers with operation %u", (uint64_t)kHostPort,
                     (uint64_t)packet->operation);
    }
    done();
    send(kData, kMyPort, kHostPort, kHello, sizeof kHello - 1, 0);
    packet = receive();
    if (packet->operation != kData || packet->length != sizeof kHello - 1 ||
        memcmp(packet + 1, kHello, sizeof kHello - 1) != 0) {
        verdict_fail(kName, "the host did not echo: operation %u, %u bytes",
                     (uint64_t)packet->operation, (uint64_t)packet->length);
    }
    done();
    send(kShutdown, kMyPort, kHostPort, NULL, 0, 3);
    while (receive()->operation != kReset) {
        done();
    }
    done();
}

// Serves one connection of the host. Returns the bytes that went through.
static uint64_t echo(void) {
    uint64_t total = 0;
    print("\nmicro: vsock listens on %u\n", (uint64_t)kEchoPort);
    for (;;) {
        const Header* packet = receive();
        const uint32_t port = packet->source_port;
        const uint16_t operation = packet->operation;
        if (operation == kRequest && packet->destination_port == kEchoPort) {
            forwarded = 0;
            send(kResponse, kEchoPort, port, NULL, 0, 0);
        } else if (operation == kData) {
            total += packet->length;
            forwarded += packet->length;
            send(kData, kEchoPort, port, packet + 1, packet->length, 0);
        } else if (operation == kCreditRequest) {
            send(kCreditUpdate, kEchoPort, port, NULL, 0, 0);
        } else if (operation == kShutdown) {
            send(kShutdown, kEchoPort, port, NULL, 0, 3);
        } else if (operation == kReset) {
            done();
            return total;
        }
        done();
    }
}

int main(void) {
    if (!virtio_find(&device, kVirtioVsock, 0) || device.config == NULL) {
        verdict_fail(kName, "no virtio-vsock device that works");
    }
    outgoing = allocate(kHeaderSize, 16);
    cid = *(volatile uint32_t*)device.config;
    start();
    greet_host();
    const uint64_t echoed = echo();
    uint64_t attacks = 0;
    for (uint16_t i = 0; i < 3; i++) {
        attacks += attack_queue(kName, i, restart);
    }
    start();
    greet_host();
    verdict_ok(kName, "cid=%u echoed=%u attacks=%u", cid, echoed, attacks);
}
