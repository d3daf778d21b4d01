// A disk under a steady hand: writes the whole disk from front to end, 16 KiB at a time, each
// sector stamped with the number of the wave, and begins again with the next number. So at every
// instant the disk has one wave up to some multiple of 16 KiB and the one before from there on; a
// copy that mixes instants does not. Prints "micro: waves N" after each; ends after `waves=` (0:
// never).
#include "block.h"

static const char kName[] = "waves";
enum { kChunk = 16384 };
static Block block;

int main(void) {
    block_patience_us = 60000000;  // a copy may hold a write back
    if (!block_open(&block, 0)) {
        verdict_fail(kName, "no virtio-blk device that works");
    }
    const uint64_t sectors = block_sectors(&block);
    const uint64_t waves = option_number("waves=", 0);
    for (uint64_t wave = 1; waves == 0 || wave <= waves; wave++) {
        for (uint32_t at = 0; at < kChunk; at += kSector) {
            *(volatile uint64_t*)(block.data + at) = wave;
        }
        for (uint64_t sector = 0; sector < sectors; sector += kChunk / kSector) {
            const uint8_t status = block_request(&block, kBlockOut, sector, kChunk);
            if (status != 0) {
                verdict_fail(kName, "writing sector %u: status %u", sector, (uint64_t)status);
            }
        }
        print("\nmicro: waves %u", wave);
    }
    block_request(&block, kBlockFlush, 0, 0);
    verdict_ok(kName, "sectors=%u", sectors);
}
