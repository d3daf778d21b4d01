// One virtio-blk request at a time (virtio 1.2 §5.2), for the guests that use or abuse the device.
#pragma once

#include "pci.h"

enum {
    kBlockIn = 0,
    kBlockOut = 1,
    kBlockFlush = 4,
    kBlockGetId = 8,
    kBlockDiscard = 11,
    kBlockWriteZeroes = 13,
    kSector = 512
};

typedef struct {
    uint32_t type, reserved;
    uint64_t sector;
} BlockHeader;

typedef struct {
    Virtio device;
    Queue queue;
    BlockHeader* header;
    volatile uint8_t* status;
    uint8_t* data;  // 64 KiB
} Block;

static const uint64_t kBlockFeatureReadOnly = 1ull << 5;
static const uint64_t kBlockFeatureFlush = 1ull << 9;
static const uint64_t kBlockFeatureDiscard = 1ull << 13;
static const uint64_t kBlockFeatureWriteZeroes = 1ull << 14;

bool block_open(Block* block, uint32_t nth);  // finds it, sets queue 0 up
bool block_restart(Block* block);             // reset and set up again, whatever happened before
uint64_t block_sectors(const Block* block);
extern uint64_t block_patience_us;  // 5 s unless changed
// The device's status byte; 255: no answer in that time.
uint8_t block_request(Block* block, uint32_t type, uint64_t sector, uint32_t bytes);
