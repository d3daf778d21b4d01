// virtio-blk: id, write, flush, read back and compare over the whole disk, zeroes, discard, errors
// at the end of the disk, completion by MSI-X. With "readonly" the disk must refuse writes instead;
// "rounds=N" writes and verifies N times, and waits a minute for each answer.
#include "block.h"

static const char kName[] = "blk";
enum { kChunk = 16384, kChunks = 8, kVector = 0x60 };
static Block block;

static void fill(uint32_t seed) {
    for (uint32_t i = 0; i < kChunk / 8; i++) {
        ((uint64_t*)block.data)[i] = (seed * 2654435761ull) ^ (i * 0x9e3779b97f4a7c15ull);
    }
}

static void expect(uint8_t status, uint8_t wanted, const char* what) {
    if (status != wanted) {
        verdict_fail(kName, "%s: status %u, not %u", what, (uint64_t)status, (uint64_t)wanted);
    }
}

static uint64_t sector_of(uint32_t chunk) {
    const uint64_t last = block_sectors(&block) - kChunk / kSector;
    return last * chunk / (kChunks - 1);
}

static void write_and_verify(void) {
    for (uint32_t i = 0; i < kChunks; i++) {
        fill(i + 1);
        expect(block_request(&block, kBlockOut, sector_of(i), kChunk), 0, "write");
    }
    expect(block_request(&block, kBlockFlush, 0, 0), 0, "flush");
    uint8_t* wanted = allocate(kChunk, 4096);
    for (uint32_t i = 0; i < kChunks; i++) {
        fill(i + 1);
        memcpy(wanted, block.data, kChunk);
        memset(block.data, 0, kChunk);
        expect(block_request(&block, kBlockIn, sector_of(i), kChunk), 0, "read");
        if (memcmp(wanted, block.data, kChunk) != 0) {
            verdict_fail(kName, "chunk %u reads back differently", (uint64_t)i);
        }
    }
}

static void test_write_zeroes(void) {
    if ((block.device.features & kBlockFeatureWriteZeroes) == 0) {
        return;
    }
    uint32_t* segment = (uint32_t*)block.data;  // §5.2.6: sector, sectors, flags
    memset(segment, 0, 16);
    segment[2] = 8;
    expect(block_request(&block, kBlockWriteZeroes, 0, 16), 0, "write zeroes");
    fill(99);
    expect(block_request(&block, kBlockIn, 0, 8 * kSector), 0, "read zeroes");
    for (uint32_t i = 0; i < 8 * kSector / 8; i++) {
        if (((uint64_t*)block.data)[i] != 0) {
            verdict_fail(kName, "zeroed word %u is not zero", (uint64_t)i);
        }
    }
    memset(segment, 0, 16);
    segment[2] = 8;
    if ((block.device.features & kBlockFeatureDiscard) != 0) {
        expect(block_request(&block, kBlockDiscard, 0, 16), 0, "discard");
    }
}

static void test_errors(void) {
    const uint64_t end = block_sectors(&block);
    expect(block_request(&block, kBlockIn, end, kSector), 1, "read at the end");
    expect(block_request(&block, kBlockIn, end - 1, 2 * kSector), 1, "read across the end");
    expect(block_request(&block, kBlockOut, ~0ull - 1, kChunk), 1, "write far out");
    expect(block_request(&block, 77, 0, kSector), 2, "unknown request");
    expect(block_request(&block, kBlockIn, 0, kSector), 0, "read after errors");
}

static void test_msix(void) {
    interrupts_init();
    if (!msix_enable(&block.device, 0, kVector)) {
        verdict_fail(kName, "no MSI-X");
    }
    virtio_begin(&block.device, 0);
    virtio_queue(&block.device, &block.queue, 0, 64);
    common_write16(&block.device, kCommonQueueSelect, 0);
    common_write16(&block.device, kCommonQueueMsix, 0);
    if (common_read16(&block.device, kCommonQueueMsix) != 0) {
        verdict_fail(kName, "vector 0 is refused");
    }
    virtio_go(&block.device);
    for (uint32_t i = 1; i <= 5; i++) {
        expect(block_request(&block, kBlockIn, 0, kSector), 0, "read with MSI-X");
        interrupts_on();
        const uint64_t begun = rdtsc();
        while (interrupt_count[kVector] < i) {
            pause_once();
            if (rdtsc() - begun > 3000000 * tsc_per_us()) {
                verdict_fail(kName, "%u interrupts for %u requests",
                             (uint64_t)interrupt_count[kVector], (uint64_t)i);
            }
        }
        interrupts_off();
    }
}

int main(void) {
    if (!block_open(&block, (uint32_t)option_number("disk=", 0))) {
        verdict_fail(kName, "no virtio-blk device that works");
    }
    const bool read_only = (block.device.features & kBlockFeatureReadOnly) != 0;
    if (read_only != option("readonly")) {
        verdict_fail(kName, "read-only feature is %u", (uint64_t)read_only);
    }
    expect(block_request(&block, kBlockGetId, 0, 20), 0, "get id");
    block.data[20] = 0;
    print("\nmicro: blk id=%s sectors=%u", (const char*)block.data, block_sectors(&block));
    if (read_only) {
        expect(block_request(&block, kBlockIn, 0, kChunk), 0, "read");
        expect(block_request(&block, kBlockOut, 0, kSector), 1, "write to a read-only disk");
    } else {
        const uint64_t rounds = option_number("rounds=", 1);
        if (rounds > 1) {
            block_patience_us = 60000000;
        }
        for (uint64_t round = 1; round <= rounds; round++) {
            write_and_verify();
            if (rounds > 1) {
                print("\nmicro: blk round=%u", round);
            }
        }
        test_write_zeroes();
    }
    test_errors();
    test_msix();
    verdict_ok(kName, "sectors=%u", block_sectors(&block));
}
