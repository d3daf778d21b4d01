#include "block.h"

uint64_t block_patience_us = 5000000;

bool block_restart(Block* block) {
    if (!virtio_begin(&block->device, kFeatureIndirect | kBlockFeatureReadOnly |
                                          kBlockFeatureFlush | kBlockFeatureDiscard |
                                          kBlockFeatureWriteZeroes) ||
        !virtio_queue(&block->device, &block->queue, 0, 64)) {
        return false;
    }
    virtio_go(&block->device);
    return true;
}

bool block_open(Block* block, uint32_t nth) {
    if (!virtio_find(&block->device, kVirtioBlock, nth) || block->device.config == NULL) {
        return false;
    }
    block->header = allocate(sizeof *block->header, 16);
    block->status = allocate(16, 16);
    block->data = allocate(65536, 4096);
    return block_restart(block);
}

uint64_t block_sectors(const Block* block) {
    volatile uint32_t* config = (volatile uint32_t*)block->device.config;
    return config[0] | (uint64_t)config[1] << 32;
}

uint8_t block_request(Block* block, uint32_t type, uint64_t sector, uint32_t bytes) {
    const bool reads = type == kBlockIn || type == kBlockGetId;
    Queue* queue = &block->queue;
    *block->header = (BlockHeader){type, 0, sector};
    *block->status = 255;
    queue_set(queue, 0, block->header, sizeof *block->header, kDescNext, bytes == 0 ? 2 : 1);
    queue_set(queue, 1, block->data, bytes, kDescNext | (reads ? kDescWrite : 0), 2);
    queue_set(queue, 2, block->status, 1, kDescWrite, 0);
    queue_offer(queue, 0);
    queue_notify(queue);
    UsedElement element;
    return queue_wait(queue, &element, block_patience_us) ? *block->status : 255;
}
