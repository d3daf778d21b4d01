// virtio-net at full speed, for the bench: `tx` sends frames of `size=` bytes, `tso` the same as
// 64 KiB of TCP to be cut by the host, `rx` takes what comes. Rings are filled once and only their
// indices move afterwards, so that the device and not the guest decides the figure. Runs for `ms=`
// and says how many frames the device gave back.
#include "pci.h"

static const char kName[] = "netload";
enum {
    kHeader = 12,
    kFrameMax = 65226,
    kRing = 256,
    kReceiveBuffer = 2048,
    kChecksum = 1 << 0,
    kMac = 1 << 5,
    kHostTso4 = 1 << 11,
    kSegment = 1448,
    kReportMs = 1000,
};

static Virtio device;
static Queue receive, transmit;

// Ethernet to nobody, IPv4, TCP: enough for the host's kernel to cut it.
static void fill_frame(uint8_t* buffer, uint32_t size, bool segmented) {
    static const uint8_t kStart[] = {2, 0, 0, 0, 0, 1, 2,  0, 0,  0, 0, 2, 8, 0,  //
                                     0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0,   //
                                     10,   9, 8, 1, 10, 9, 8, 2};
    uint8_t* frame = buffer + kHeader;
    memcpy(frame, kStart, sizeof kStart);
    frame[16] = (uint8_t)((size - 14) >> 8);
    frame[17] = (uint8_t)(size - 14);
    frame[46] = 0x50;  // TCP: a header of 20 bytes
    if (segmented) {
        buffer[0] = 1;  // the checksum is the host's work
        buffer[1] = 1;  // TCPv4
        buffer[2] = 54;
        buffer[4] = kSegment & 0xff;
        buffer[5] = kSegment >> 8;
        buffer[6] = 34;
        buffer[8] = 16;
    }
}

static void start(uint64_t features) {
    if (!virtio_find(&device, kVirtioNet, 0) || !virtio_begin(&device, kMac | features) ||
        !virtio_queue(&device, &receive, 0, kRing) || !virtio_queue(&device, &transmit, 1, kRing)) {
        verdict_fail(kName, "no virtio-net device that works");
    }
}

static void fill(Queue* queue, uint8_t* memory, uint32_t stride, uint32_t size, uint16_t flags) {
    for (uint16_t i = 0; i < queue->size; i++) {
        queue_set(queue, i, memory + (uint64_t)i * stride, size, flags, 0);
        queue->avail[2 + i] = i;
    }
    queue->avail[0] = 1;  // no interrupts
}

// All buffers that came back are offered again at once: the ring's entries stay as they are, and
// the device returns buffers in their order or not, it is all the same.
static uint64_t turn_ring(Queue* queue, uint64_t ms) {
    const uint64_t end = rdtsc() + ms * 1000 * tsc_per_us();
    uint64_t frames = 0;
    uint16_t offered = queue->size;
    queue->avail[1] = offered;
    barrier();
    queue_notify(queue);
    while (rdtsc() < end) {
        const uint16_t wanted = (uint16_t)(queue->used[1] + queue->size);
        if (wanted == offered) {
            continue;
        }
        frames += (uint16_t)(wanted - offered);
        offered = wanted;
        barrier();
        queue->avail[1] = offered;
        barrier();
        if ((queue->used[0] & 1) == 0) {  // the device asks to be told
            queue_notify(queue);
        }
    }
    return frames;
}

int main(void) {
    const bool tso = option("tso");
    const bool rx = option("rx");
    const uint32_t size = tso ? kFrameMax : (uint32_t)option_number("size=", 64);
    const uint64_t ms = option_number("ms=", kReportMs);
    start(tso ? kChecksum | kHostTso4 : 0);
    if (tso && (device.features & kHostTso4) == 0) {
        verdict_fail(kName, "the device offers no TSO");
    }
    if (rx) {
        fill(&receive, allocate((size_t)kRing * kReceiveBuffer, 16), kReceiveBuffer, kReceiveBuffer,
             kDescWrite);
    } else {
        uint8_t* buffer = allocate(kHeader + kFrameMax, 16);
        fill_frame(buffer, size, tso);
        fill(&transmit, buffer, 0, kHeader + size, 0);
    }
    virtio_go(&device);
    print("micro: netload runs\n");
    const uint64_t frames = turn_ring(rx ? &receive : &transmit, ms);
    verdict_ok(kName, "frames=%u ms=%u", frames, ms);
}
