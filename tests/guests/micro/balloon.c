// virtio-balloon: inflated and reported pages come back empty, statistics are taken, then
// attacks on every queue. `wait`: asks for pages of the host's target first and gives as many.
// `hints`: waits for a migration, calls 15 of 16 MiB free and uses a page of each MiB again at
// once; on the other side those and what was never free must be there, and the rest need not.
#include "attack.h"

static const char kName[] = "balloon";
enum { kPage = 4096, kQueues = 4, kInflate = 0, kDeflate = 1, kStatistics = 2, kReporting = 3 };
enum { kHints = 3, kStop = 0, kDone = 1, kBlocks = 16, kBlockPages = 256 };
static const uint64_t kFeatures = 1u << 1 | 1u << 2 | 1u << 4 | 1u << 5;
static const uint64_t kHintFeatures = 1u << 1 | 1u << 3;

static Virtio device;
static Queue queues[kQueues];

static Queue* restart(uint16_t index) {
    if (!virtio_begin(&device, option("hints") ? kHintFeatures : kFeatures)) {
        return NULL;
    }
    for (uint16_t i = 0; i < kQueues; i++) {
        if (!virtio_queue(&device, &queues[i], i, 16)) {
            return NULL;
        }
    }
    virtio_go(&device);
    return &queues[index];
}

static void send(Queue* queue, const volatile void* data, uint32_t size, uint16_t flags) {
    UsedElement element;
    queue_set(queue, 0, data, size, flags, 0);
    queue_offer(queue, 0);
    queue_notify(queue);
    if (!queue_wait(queue, &element, 5000000)) {
        verdict_fail(kName, "queue %u does not answer", (uint64_t)queue->index);
    }
}

static void check_empty(const volatile uint8_t* page, const char* how) {
    for (uint32_t i = 0; i < kPage; i += 512) {
        if (page[i] != 0) {
            verdict_fail(kName, "a page that was %s still holds %x", how, (uint64_t)page[i]);
        }
    }
}

static void give_pages(void) {
    volatile uint8_t* pages = allocate(4 * kPage, kPage);
    uint32_t* numbers = allocate(16, 16);
    memset((void*)pages, 0x5a, 4 * kPage);
    for (uint32_t i = 0; i < 2; i++) {
        numbers[i] = (uint32_t)((uintptr_t)pages / kPage) + i;
    }
    send(&queues[kInflate], numbers, 8, 0);
    check_empty(pages, "inflated");
    check_empty(pages + kPage, "inflated");
    if (pages[2 * kPage] != 0x5a) {
        verdict_fail(kName, "a page that was not given is empty");
    }
    send(&queues[kDeflate], numbers, 8, 0);
    send(&queues[kReporting], pages + 2 * kPage, kPage, kDescWrite);
    check_empty(pages + 2 * kPage, "reported");
    // Poison: reported pages must keep what they hold.
    *(volatile uint32_t*)(device.config + 12) = 0xaaaaaaaa;
    send(&queues[kReporting], pages + 3 * kPage, kPage, kDescWrite);
    if (pages[3 * kPage] != 0x5a) {
        verdict_fail(kName, "a poisoned page was emptied");
    }
    *(volatile uint32_t*)(device.config + 12) = 0;
}

static void give_statistics(void) {
    uint8_t* values = allocate(16, 16);
    const uint16_t tag = 4;
    const uint64_t value = 123456;
    memcpy(values, &tag, 2);
    memcpy(values + 2, &value, 8);
    queue_set(&queues[kStatistics], 0, values, 10, 0, 0);
    queue_offer(&queues[kStatistics], 0);
    queue_notify(&queues[kStatistics]);
}

// Follows the host's target once, then tells how much it gave.
static void follow_target(void) {
    volatile uint32_t* config = (volatile uint32_t*)device.config;
    print("\nmicro: balloon waits");
    for (int i = 0; i < 30000 && config[0] == 0; i++) {
        wait_us(1000);
    }
    const uint32_t wanted = config[0];
    uint8_t* pages = allocate((size_t)wanted * kPage, kPage);
    uint32_t* numbers = allocate(256 * 4, 16);
    memset(pages, 0x77, (size_t)wanted * kPage);
    print("\nmicro: balloon filled %u pages", (uint64_t)wanted);
    for (uint32_t given = 0; given < wanted;) {
        uint32_t count = 0;
        for (; count < 256 && given < wanted; count++, given++) {
            numbers[count] = (uint32_t)((uintptr_t)pages / kPage) + given;
        }
        send(&queues[kInflate], numbers, count * 4, 0);
    }
    config[1] = wanted;
    print("\nmicro: balloon gave %u pages\n", (uint64_t)wanted);
    for (int i = 0; i < 60000 && config[0] != 0; i++) {
        wait_us(1000);
    }
}

static volatile uint64_t* cell(uint8_t* blocks, uint32_t block, uint32_t page) {
    return (volatile uint64_t*)(blocks + ((size_t)block * kBlockPages + page) * kPage + 8);
}

static uint32_t used_again(uint32_t block) {
    return block * 7 % kBlockPages;
}

static void tell_free_pages(uint8_t* blocks) {
    volatile uint32_t* command = (volatile uint32_t*)(device.config + 8);
    uint32_t* number = allocate(4, 16);
    print("\nmicro: balloon waits");
    for (int i = 0; i < 60000 && *command <= kDone; i++) {
        wait_us(1000);
    }
    *number = *command;
    send(&queues[kHints], number, 4, 0);
    for (uint32_t block = 1; block < kBlocks; block++) {
        send(&queues[kHints], blocks + (size_t)block * kBlockPages * kPage, kBlockPages * kPage,
             kDescWrite);
        *cell(blocks, block, used_again(block)) = 0xa9a19;
    }
    *number = kStop;
    send(&queues[kHints], number, 4, 0);
    for (int i = 0; i < 60000 && *command != kDone; i++) {
        wait_us(1000);
    }
    print("\nmicro: balloon has its pages back");
}

// Until something that was free is gone: on the other side.
static void follow_migration(void) {
    uint8_t* blocks = allocate((size_t)kBlocks * kBlockPages * kPage, kBlockPages * kPage);
    for (uint32_t page = 0; page < kBlocks * kBlockPages; page++) {
        *cell(blocks, 0, page) = page + 1;
    }
    tell_free_pages(blocks);
    uint64_t empty = 0;
    for (int i = 0; i < 60000 && *cell(blocks, kBlocks - 1, 0) != 0; i++) {
        wait_us(1000);
    }
    for (uint32_t page = 0; page < kBlocks * kBlockPages; page++) {
        const uint32_t block = page / kBlockPages;
        const uint64_t value = *cell(blocks, 0, page);
        const bool again = block != 0 && page % kBlockPages == used_again(block);
        const uint64_t expected = again ? 0xa9a19 : page + 1;
        if (value == 0 && block != 0 && !again) {
            empty++;
        } else if (value != expected) {
            verdict_fail(kName, "page %u holds %x, not %x", (uint64_t)page, value, expected);
        }
    }
    verdict_ok(kName, "empty=%u", empty);
}

int main(void) {
    if (!virtio_find(&device, kVirtioBalloon, 0) || restart(0) == NULL) {
        verdict_fail(kName, "no virtio-balloon device that works");
    }
    if (option("hints")) {
        follow_migration();
    }
    give_pages();
    give_statistics();
    if (option("wait")) {
        follow_target();
        verdict_ok(kName, "followed");
    }
    uint64_t attacks = 0;
    for (uint16_t i = 0; i < kQueues; i++) {
        attacks += attack_queue(kName, i, restart);
    }
    give_pages();
    verdict_ok(kName, "attacks=%u", attacks);
}
