// A guest that attacks its VMM through virtio queues and configuration. After every attack the
// block device is reset and must serve a plain read again. Prints each attack before doing it, so
// that the last line names the one that was not survived. Any answer to an attack is right: error
// status, NEEDS_RESET, silence. `only=N` runs one attack.
#include "block.h"

static const char kName[] = "hostile";
static Block block;
static uint64_t end_of_memory;

enum { kGiveUs = 3000 };  // how long an attack may work before the reset

static void fire(uint16_t head) {
    queue_offer(&block.queue, head);
    queue_notify(&block.queue);
    wait_us(kGiveUs);
}

static void header(uint32_t type, uint64_t sector) {
    *block.header = (BlockHeader){type, 0, sector};
}

static void chain(const volatile void* data, uint32_t length, uint16_t flags) {
    Queue* queue = &block.queue;
    queue_set(queue, 0, block.header, sizeof *block.header, kDescNext, 1);
    queue_set(queue, 1, data, length, flags, 2);
    queue_set(queue, 2, block.status, 1, kDescWrite, 0);
}

static void chain_loop(void) {
    header(kBlockIn, 0);
    chain(block.data, kSector, kDescNext | kDescWrite);
    block.queue.desc[1].next = 1;
    fire(0);
}

static void chain_loop_back(void) {
    header(kBlockOut, 0);
    chain(block.data, kSector, kDescNext);
    queue_set(&block.queue, 2, block.data, kSector, kDescNext, 0);
    fire(0);
}

static void next_out_of_table(void) {
    header(kBlockIn, 0);
    chain(block.data, kSector, kDescNext | kDescWrite);
    block.queue.desc[1].next = 0xffff;
    fire(0);
}

static void addresses(void) {
    const uint64_t places[] = {~0ull,      ~0ull - kSector + 1, end_of_memory, end_of_memory - 1,
                               0xc0000000, 0xfee00000,          1ull << 52,    1ull << 63,
                               0xffffffff};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        block_restart(&block);
        header(kBlockIn, 0);
        chain((void*)(uintptr_t)places[i], kSector, kDescNext | kDescWrite);
        fire(0);
    }
}

static void header_and_status_addresses(void) {
    const uint64_t places[] = {~0ull, end_of_memory - 8, 1ull << 50};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        block_restart(&block);
        header(kBlockIn, 0);
        chain(block.data, kSector, kDescNext | kDescWrite);
        block.queue.desc[0].address = places[i];
        fire(0);
        block_restart(&block);
        chain(block.data, kSector, kDescNext | kDescWrite);
        block.queue.desc[2].address = places[i];
        fire(0);
    }
}

static void lengths(void) {
    const uint32_t sizes[] = {0, 1, 511, 513, 0x7fffffff, 0x80000000u, 0xfffffe00u, 0xffffffffu};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (uint16_t flags = 0; flags <= kDescWrite; flags += kDescWrite) {
            block_restart(&block);
            header(flags != 0 ? kBlockIn : kBlockOut, 8);
            chain(block.data, sizes[i], (uint16_t)(kDescNext | flags));
            fire(0);
        }
    }
}

static void many_huge(void) {  // 62 x 4 GiB in one chain: no sum may wrap
    header(kBlockIn, 0);
    queue_set(&block.queue, 0, block.header, sizeof *block.header, kDescNext, 1);
    for (uint16_t i = 1; i < block.queue.size; i++) {
        queue_set(&block.queue, i, (void*)0x1000, 0xfffff000u,
                  (uint16_t)(kDescWrite | (i + 1 < block.queue.size ? kDescNext : 0)),
                  (uint16_t)(i + 1));
    }
    fire(0);
}

static void wrong_direction(void) {
    header(kBlockIn, 0);
    chain(block.data, kSector, kDescNext);  // a read into a read-only buffer
    fire(0);
    block_restart(&block);
    chain(block.data, kSector, kDescNext | kDescWrite);
    block.queue.desc[0].flags |= kDescWrite;  // a header the device may only write
    fire(0);
    block_restart(&block);
    chain(block.data, kSector, kDescNext | kDescWrite);
    block.queue.desc[2].flags = 0;  // a status it may not write
    fire(0);
    block_restart(&block);
    queue_set(&block.queue, 0, block.status, 1, kDescWrite, 0);  // a status alone
    fire(0);
    block_restart(&block);
    queue_set(&block.queue, 0, block.header, 3, 0, 0);  // a stump of a header alone
    fire(0);
}

static void heads_out_of_table(void) {
    fire(block.queue.size);
    block_restart(&block);
    fire(0xffff);
}

static void index_jumps(void) {
    header(kBlockIn, 0);
    chain(block.data, kSector, kDescNext | kDescWrite);
    const uint16_t jumps[] = {65, 1000, 32768, 65535};
    for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
        block_restart(&block);
        block.queue.avail[1] = jumps[i];
        queue_notify(&block.queue);
        wait_us(kGiveUs);
        block.queue.avail[1] = 0;  // and back again
        queue_notify(&block.queue);
        wait_us(kGiveUs);
    }
}

static void same_head_often(void) {
    header(kBlockIn, 0);
    chain(block.data, kSector, kDescNext | kDescWrite);
    for (int i = 0; i < 60; i++) {
        queue_offer(&block.queue, 0);
    }
    queue_notify(&block.queue);
    wait_us(kGiveUs);
}

static void indirect(uint32_t length, uint16_t flags, uint16_t inner_flags, uint16_t inner_next) {
    block_restart(&block);
    Desc* table = (Desc*)(block.data + 32768);
    memset(table, 0, 16 * sizeof(Desc));
    table[0] = (Desc){(uint64_t)(uintptr_t)block.header, 16, kDescNext, 1};
    table[1] = (Desc){(uint64_t)(uintptr_t)block.data, kSector, inner_flags, inner_next};
    table[2] = (Desc){(uint64_t)(uintptr_t)block.status, 1, kDescWrite, 0};
    header(kBlockIn, 0);
    queue_set(&block.queue, 0, table, length, flags, 0);
    fire(0);
}

static void indirect_tables(void) {
    const uint16_t good = kDescNext | kDescWrite;
    indirect(48, kDescIndirect, kDescIndirect | kDescNext, 2);  // a table in a table
    indirect(48, kDescIndirect | kDescNext, good, 2);           // §2.7.5.3.1 forbids both flags
    indirect(48, kDescIndirect | kDescWrite, good, 2);
    indirect(0, kDescIndirect, good, 2);
    indirect(47, kDescIndirect, good, 2);
    indirect(0xfffffff0u, kDescIndirect, good, 2);
    indirect(48, kDescIndirect, good, 1);      // loop
    indirect(48, kDescIndirect, good, 0xfff);  // out of the table
    block_restart(&block);
    queue_set(&block.queue, 0, (void*)(uintptr_t)(end_of_memory - 16), 64, kDescIndirect, 0);
    fire(0);
}

static void requests(void) {
    const uint32_t types[] = {2, 3, 5, 9, 10, 12, 14, 16, 0x80000000u, 0xffffffffu};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        block_request(&block, types[i], 0, kSector);
    }
    block_request(&block, kBlockIn, ~0ull, kSector);
    block_request(&block, kBlockIn, 1ull << 55, kSector);
    block_request(&block, kBlockOut, block_sectors(&block) - 1, 65536);
    memset(block.data, 0xff, 64);
    block_request(&block, kBlockDiscard, 0, 16);
    block_request(&block, kBlockWriteZeroes, 0, 16);
    block_request(&block, kBlockDiscard, 0, 15);
    block_request(&block, kBlockDiscard, 0, 65536);
}

static void reset_in_flight(void) {
    for (int round = 0; round < 10; round++) {
        block_restart(&block);
        header(kBlockIn, 0);
        chain(block.data, 32768, kDescNext | kDescWrite);
        for (int i = 0; i < 16; i++) {
            queue_offer(&block.queue, 0);
        }
        queue_notify(&block.queue);
        block.device.common[kCommonStatus] = 0;
    }
}

static void ring_addresses(void) {
    const uint64_t places[] = {~0ull, ~0xfffull, end_of_memory - 16, 1, 0xc0000000, 1ull << 60};
    const uint32_t fields[] = {kCommonQueueDesc, kCommonQueueAvail, kCommonQueueUsed};
    for (int field = 0; field < 3; field++) {
        for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
            virtio_begin(&block.device, 0);
            virtio_queue(&block.device, &block.queue, 0, 64);
            common_write16(&block.device, kCommonQueueSelect, 0);
            common_write64(&block.device, fields[field], places[i]);  // moved after it was enabled
            common_write16(&block.device, kCommonQueueEnable, 1);
            virtio_go(&block.device);
            header(kBlockIn, 0);
            chain(block.data, kSector, kDescNext | kDescWrite);
            fire(0);
        }
    }
}

static void queue_sizes(void) {
    const uint16_t sizes[] = {0, 3, 100, 255, 1025, 32768, 65535};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        virtio_begin(&block.device, 0);
        virtio_queue(&block.device, &block.queue, 0, 64);
        common_write16(&block.device, kCommonQueueSelect, 0);
        common_write16(&block.device, kCommonQueueSize, sizes[i]);
        common_write16(&block.device, kCommonQueueEnable, 1);
        virtio_go(&block.device);
        fire(0);
    }
    common_write16(&block.device, kCommonQueueSelect, 0xffff);
    common_write16(&block.device, kCommonQueueSize, 64);
    common_write16(&block.device, kCommonQueueEnable, 1);
    common_write16(&block.device, kCommonQueueMsix, 0xfffe);
}

static void status_games(void) {
    for (int value = 0; value < 256; value++) {
        block.device.common[kCommonStatus] = (uint8_t)value;
        queue_notify(&block.queue);
    }
    virtio_reset(&block.device);
    block.device.common[kCommonStatus] = kStatusDriverOk;  // nothing negotiated before
    queue_notify(&block.queue);
    wait_us(kGiveUs);
}

static void common_accesses(void) {
    for (uint32_t offset = 0; offset < 4096; offset += offset < 72 ? 1 : 251) {
        volatile uint8_t* at = block.device.common + offset;
        (void)*at;
        (void)*(volatile uint16_t*)at;
        (void)*(volatile uint32_t*)at;
        (void)*(volatile uint64_t*)at;
        if (offset < 64) {
            *at = 0xff;
            *(volatile uint16_t*)at = 0xffff;
            *(volatile uint32_t*)at = 0xffffffffu;
            *(volatile uint64_t*)at = ~0ull;
        }
    }
    for (uint32_t offset = 0; offset < 64; offset++) {
        (void)*(volatile uint32_t*)(block.device.config + offset);
        *(volatile uint32_t*)(block.device.config + offset) = 0xffffffffu;
    }
    for (uint32_t offset = 0; offset < 64; offset++) {
        *(volatile uint16_t*)(block.device.notify + offset) = 0xffff;
    }
}

static void config_space(void) {
    uint32_t saved[64];
    for (uint32_t i = 0; i < 64; i++) {
        saved[i] = pci_read32(block.device.pci, i * 4);
    }
    const uint32_t patterns[] = {0xffffffffu, 0, 0x5a5a5a5au};
    for (uint32_t pattern = 0; pattern < 3; pattern++) {
        for (uint32_t i = 0; i < 64; i++) {
            pci_write32(block.device.pci, i * 4, patterns[pattern]);
        }
    }
    for (uint32_t i = 64; i-- > 0;) {  // command last, when the BARs are back
        pci_write32(block.device.pci, i * 4, saved[i]);
    }
    pci_write32(block.device.pci, 4, saved[1] & 0xffff);
    for (uint32_t port = 0xcf8; port < 0xd00; port++) {
        if (port != 0xcf9) {  // the reset register of some boards
            (void)in8((uint16_t)port);
            (void)in16((uint16_t)port);
            (void)in32((uint16_t)port);
        }
    }
}

static void bar_moves(void) {
    const uint32_t bars[2] = {pci_read32(block.device.pci, 0x10),
                              pci_read32(block.device.pci, 0x14)};
    const uint32_t places[] = {0,           0x1000,      0x100000,   0xfec00000u,
                               0xfee00000u, 0xe0000000u, 0xfffff000u};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        pci_write32(block.device.pci, 0x10, places[i]);
        pci_write32(block.device.pci, 0x14, i % 2 == 0 ? 0 : ~0u);
        (void)*(volatile uint32_t*)(uintptr_t)(places[i] & 0xfff00000u);
    }
    pci_write32(block.device.pci, 0x10, bars[0]);
    pci_write32(block.device.pci, 0x14, bars[1]);
    const uint32_t command = pci_read32(block.device.pci, 4) & 0xffff;
    pci_write32(block.device.pci, 4, 0);  // decoding off: the doorbell must be dead, not deadly
    queue_notify(&block.queue);
    pci_write32(block.device.pci, 4, command);
}

// The configuration-access capability: a window into any BAR (§4.1.4.9).
static void config_window(void) {
    uint32_t cap = 0;
    while ((cap = pci_find_capability(block.device.pci, 9, cap)) != 0) {
        if (pci_read32(block.device.pci, cap) >> 24 == 5) {
            break;
        }
    }
    for (uint32_t i = 0; cap != 0 && i < 64; i++) {
        pci_write32(block.device.pci, cap + 4, i % 8);                             // any BAR
        pci_write32(block.device.pci, cap + 8, i * 0x10101u);                      // any offset
        pci_write32(block.device.pci, cap + 12, i % 2 == 0 ? i : 1u << (i & 31));  // any length
        (void)pci_read32(block.device.pci, cap + 16);
        pci_write32(block.device.pci, cap + 16, 0xffffffffu);
    }
}

static void msix_table(void) {
    const uint32_t cap = pci_find_capability(block.device.pci, 17, 0);
    const uint32_t table = pci_read32(block.device.pci, cap + 4);
    volatile uint32_t* at =
        (volatile uint32_t*)(pci_map_bar(block.device.pci, table & 7) + (table & ~7u));
    const uint32_t control = pci_read32(block.device.pci, cap);
    const uint32_t addresses_low[] = {0, 0xffffffffu, 0xfeeff000u, 0x1000};
    for (uint32_t i = 0; i < 4; i++) {
        at[0] = addresses_low[i];
        at[1] = i == 1 ? 0xffffffffu : 0;
        at[2] = 0xffffffffu;
        at[3] = 0;
        pci_write32(block.device.pci, cap, control | 0x80000000u);
        block_restart(&block);
        common_write16(&block.device, kCommonQueueSelect, 0);
        common_write16(&block.device, kCommonQueueMsix, 0);
        block_request(&block, kBlockIn, 0, kSector);
    }
    for (uint32_t i = 0; i < 1024; i += 7) {
        at[i] = 0xffffffffu;
        (void)at[i];
    }
    pci_write32(block.device.pci, cap, control & 0x3fffffffu);
}

// Every I/O port but those whose purpose is to stop or reset the machine, or the console.
static void ports(void) {
    for (uint32_t port = 0; port < 0x10000; port += port < 0x1000 ? 1 : 13) {
        const bool excluded = (port >= 0x3f8 && port < 0x400) || (port >= 0x600 && port < 0x610) ||
                              port == 0xcf9 || port == 0x92 || port == 0x64 || port == 0x60 ||
                              port < 0x60;
        if (!excluded) {
            (void)in8((uint16_t)port);
            (void)in32((uint16_t)port);
            if (port < 0xcf8 || port >= 0xd00) {
                out16((uint16_t)port, 0xffff);
            }
        }
    }
}

static void ecam_accesses(void) {
    const uint64_t ecam = ecam_address();
    if (ecam == 0) {
        return;
    }
    for (uint64_t offset = 0; offset < 32 * 32768; offset += 4093) {
        (void)*(volatile uint64_t*)(ecam + offset);
        (void)*(volatile uint16_t*)(ecam + offset);
    }
    for (uint64_t bus = 1; bus < 256; bus += 50) {
        (void)*(volatile uint32_t*)(ecam + (bus << 20));
        *(volatile uint64_t*)(ecam + (bus << 20) + 4094) = ~0ull;
    }
}

static void net_device(void) {
    static Virtio net;
    static Queue receive, transmit;
    if (!virtio_find(&net, kVirtioNet, 0)) {
        return;
    }
    const uint8_t kinds[] = {0, 1, 3, 4, 5, 0x81, 0xff};
    for (size_t i = 0; i < sizeof kinds; i++) {
        virtio_begin(&net, ~0ull >> 24 & ~(1ull << 17));  // every offload
        virtio_queue(&net, &receive, 0, 16);
        virtio_queue(&net, &transmit, 1, 16);
        virtio_go(&net);
        queue_set(&receive, 0, block.data, 5, kDescWrite, 0);  // smaller than the header
        queue_set(&receive, 1, block.data, 1526, 0, 0);        // not writable
        queue_offer(&receive, 0);
        queue_offer(&receive, 1);
        queue_offer(&receive, 0xfff);
        queue_notify(&receive);
        memset(block.data, 0xff, 2048);
        block.data[0] = 1;         // needs checksum
        block.data[1] = kinds[i];  // gso type; its offsets and sizes are all ones
        queue_set(&transmit, 0, block.data, i == 0 ? 3 : 65535 - (uint32_t)i, 0, 0);
        queue_set(&transmit, 1, block.data, 0xffffffffu, kDescNext, 1);
        queue_offer(&transmit, 0);
        queue_offer(&transmit, 1);
        queue_notify(&transmit);
        wait_us(kGiveUs);
    }
    virtio_reset(&net);
}

static void rng_device(void) {
    static Virtio rng;
    static Queue queue;
    if (!virtio_find(&rng, kVirtioRng, 0)) {
        return;
    }
    virtio_begin(&rng, 0);
    virtio_queue(&rng, &queue, 0, 16);
    virtio_go(&rng);
    queue_set(&queue, 0, block.data, 64, 0, 0);  // not writable
    queue_set(&queue, 1, (void*)0x100000, 0xffffffffu, kDescWrite, 0);
    queue_set(&queue, 2, block.data, 64, kDescNext | kDescWrite, 2);
    // Not offered: 1. It would be legal to fill all memory behind 1 MiB, this program included.
    queue_offer(&queue, 0);
    queue_offer(&queue, 2);
    queue_notify(&queue);
    wait_us(kGiveUs);
    virtio_reset(&rng);
}

typedef struct {
    const char* name;
    void (*run)(void);
} Attack;
static const Attack kAttacks[] = {
    {"chain-loop", chain_loop},
    {"chain-loop-back", chain_loop_back},
    {"next-out-of-table", next_out_of_table},
    {"addresses", addresses},
    {"header-and-status", header_and_status_addresses},
    {"lengths", lengths},
    {"many-huge", many_huge},
    {"wrong-direction", wrong_direction},
    {"heads-out-of-table", heads_out_of_table},
    {"index-jumps", index_jumps},
    {"same-head-often", same_head_often},
    {"indirect-tables", indirect_tables},
    {"requests", requests},
    {"reset-in-flight", reset_in_flight},
    {"ring-addresses", ring_addresses},
    {"queue-sizes", queue_sizes},
    {"status-games", status_games},
    {"common-accesses", common_accesses},
    {"config-space", config_space},
    {"bar-moves", bar_moves},
    {"config-window", config_window},
    {"msix-table", msix_table},
    {"ports", ports},
    {"ecam", ecam_accesses},
    {"net", net_device},
    {"rng", rng_device},
};
enum { kAttacksCount = sizeof kAttacks / sizeof kAttacks[0] };

int main(void) {
    end_of_memory = memory_bytes();
    if (!block_open(&block, 0)) {
        verdict_fail(kName, "no virtio-blk device that works");
    }
    const uint64_t only = option_number("only=", kAttacksCount);
    for (uint64_t i = 0; i < kAttacksCount; i++) {
        if (only < kAttacksCount && only != i) {
            continue;
        }
        print("\nmicro: hostile %u %s", i, kAttacks[i].name);
        block_restart(&block);
        kAttacks[i].run();
        if (!block_restart(&block) || block_request(&block, kBlockIn, 0, kSector) != 0) {
            verdict_fail(kName, "after %s the disk serves no plain read", kAttacks[i].name);
        }
        print(" survived");
    }
    verdict_ok(kName, "attacks=%u", (uint64_t)kAttacksCount);
}
