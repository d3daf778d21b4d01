// virtio-net: a host of its own on the wire. Answers ARP, ICMP echo and UDP (echo on every port)
// for the address of `ip=A.B.C.D`; a UDP datagram "quit" ends it. Counts frames; no offloads.
#include "pci.h"

static const char kName[] = "net";
enum { kHeader = 12, kFrame = 1526, kReceiveBuffers = 16, kMac = 1 << 5, kUdp = 17, kIcmp = 1 };

static Virtio device;
static Queue receive, transmit;
static uint8_t* buffers[kReceiveBuffers];
static uint8_t* outgoing;
static uint8_t mac[6], address[4];
static uint64_t frames_in, frames_out;

static void parse_address(void) {
    static const char kPrefix[] = "ip=";
    const char* at = command_line();
    for (; *at != 0 && memcmp(at, kPrefix, 3) != 0; at++) {
    }
    if (*at == 0) {
        verdict_fail(kName, "the command line has no ip=");
    }
    at += 3;
    for (int i = 0; i < 4; i++) {
        for (; *at >= '0' && *at <= '9'; at++) {
            address[i] = (uint8_t)(address[i] * 10 + *at - '0');
        }
        at++;
    }
}

static uint16_t checksum(const uint8_t* bytes, uint32_t size) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i + 1 < size; i += 2) {
        sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
    }
    if (size % 2 != 0) {
        sum += (uint32_t)bytes[size - 1] << 8;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put16(uint8_t* at, uint16_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void offer_receive(uint16_t index) {
    queue_set(&receive, index, buffers[index], kHeader + kFrame, kDescWrite, 0);
    queue_offer(&receive, index);
}

static void send_frame(uint32_t size) {
    memset(outgoing, 0, kHeader);
    queue_set(&transmit, 0, outgoing, kHeader + size, 0, 0);
    queue_offer(&transmit, 0);
    queue_notify(&transmit);
    UsedElement element;
    if (!queue_wait(&transmit, &element, 5000000)) {
        verdict_fail(kName, "a frame of %u bytes was not sent", (uint64_t)size);
    }
    frames_out++;
}

static uint8_t* begin_reply(const uint8_t* frame) {
    uint8_t* out = outgoing + kHeader;
    memcpy(out, frame + 6, 6);
    memcpy(out + 6, mac, 6);
    memcpy(out + 12, frame + 12, 2);
    return out;
}

static void answer_arp(const uint8_t* frame, uint32_t size) {
    if (size < 42 || frame[21] != 1 || memcmp(frame + 38, address, 4) != 0) {
        return;
    }
    uint8_t* out = begin_reply(frame);
    memcpy(out + 14, frame + 14, 6);
    put16(out + 20, 2);
    memcpy(out + 22, mac, 6);
    memcpy(out + 28, address, 4);
    memcpy(out + 32, frame + 22, 10);
    send_frame(42);
}

// True if the datagram says "quit".
static bool answer_ip(const uint8_t* frame, uint32_t size) {
    const uint8_t* ip = frame + 14;
    const uint32_t length = (uint32_t)(ip[2] << 8 | ip[3]);
    if (size < 42 || ip[0] != 0x45 || length < 28 || length + 14 > size ||
        memcmp(ip + 16, address, 4) != 0) {
        return false;
    }
    uint8_t* out = begin_reply(frame) + 14;
    memcpy(out, ip, length);
    memcpy(out + 12, ip + 16, 4);
    memcpy(out + 16, ip + 12, 4);
    put16(out + 10, 0);
    put16(out + 10, checksum(out, 20));
    if (ip[9] == kIcmp && ip[20] == 8) {
        out[20] = 0;
        put16(out + 22, 0);
        put16(out + 22, checksum(out + 20, length - 20));
    } else if (ip[9] == kUdp) {
        memcpy(out + 20, ip + 22, 2);
        memcpy(out + 22, ip + 20, 2);
        put16(out + 26, 0);  // RFC 768: zero is "no checksum"
    } else {
        return false;
    }
    send_frame(length + 14);
    return ip[9] == kUdp && length >= 32 && memcmp(ip + 28, "quit", 4) == 0;
}

static void start(void) {
    if (!virtio_find(&device, kVirtioNet, 0) || !virtio_begin(&device, kMac) ||
        device.config == NULL || !virtio_queue(&device, &receive, 0, kReceiveBuffers) ||
        !virtio_queue(&device, &transmit, 1, 16)) {
        verdict_fail(kName, "no virtio-net device that works");
    }
    for (int i = 0; i < 6; i++) {
        mac[i] = device.config[i];
    }
    outgoing = allocate(kHeader + kFrame, 16);
    for (uint16_t i = 0; i < receive.size && i < kReceiveBuffers; i++) {
        buffers[i] = allocate(kHeader + kFrame, 16);
        offer_receive(i);
    }
    virtio_go(&device);
    queue_notify(&receive);
}

int main(void) {
    parse_address();
    start();
    print("\nmicro: net up mac=%x:%x:%x:%x:%x:%x\n", (uint64_t)mac[0], (uint64_t)mac[1],
          (uint64_t)mac[2], (uint64_t)mac[3], (uint64_t)mac[4], (uint64_t)mac[5]);
    for (bool quit = false; !quit;) {
        UsedElement element;
        if (!queue_wait(&receive, &element, 30000000)) {
            verdict_fail(kName, "nothing arrived for 30 s, %u frames before", frames_in);
        }
        if (element.id >= kReceiveBuffers || element.length <= kHeader) {
            verdict_fail(kName, "used element %u of %u bytes", (uint64_t)element.id,
                         (uint64_t)element.length);
        }
        frames_in++;
        const uint8_t* frame = buffers[element.id] + kHeader;
        const uint32_t size = element.length - kHeader;
        const uint32_t type = (uint32_t)(frame[12] << 8 | frame[13]);
        if (type == 0x806) {
            answer_arp(frame, size);
        } else if (type == 0x800) {
            quit = answer_ip(frame, size);
        }
        offer_receive((uint16_t)element.id);
        queue_notify(&receive);
    }
    verdict_ok(kName, "in=%u out=%u", frames_in, frames_out);
}
