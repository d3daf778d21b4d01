// virtio-rng: fills two buffers with different bytes.
#include "pci.h"

static const char kName[] = "rng";
enum { kBytes = 256 };

int main(void) {
    static Virtio device;
    static Queue queue;
    if (!virtio_find(&device, kVirtioRng, 0) || !virtio_begin(&device, 0) ||
        !virtio_queue(&device, &queue, 0, 16)) {
        verdict_fail(kName, "no virtio-rng device that works");
    }
    virtio_go(&device);
    uint8_t* buffers = allocate(2 * kBytes, 16);
    uint64_t got = 0;
    for (int i = 0; i < 2; i++) {
        queue_set(&queue, 0, buffers + i * kBytes, kBytes, kDescWrite, 0);
        queue_offer(&queue, 0);
        queue_notify(&queue);
        UsedElement element;
        if (!queue_wait(&queue, &element, 3000000) || element.length == 0 ||
            element.length > kBytes) {
            verdict_fail(kName, "request %u: no bytes", (uint64_t)i);
        }
        got += element.length;
    }
    if (memcmp(buffers, buffers + kBytes, 32) == 0) {
        verdict_fail(kName, "the same bytes twice");
    }
    verdict_ok(kName, "bytes=%u", got);
}
