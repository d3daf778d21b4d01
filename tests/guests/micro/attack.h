// The same hostile chains for any virtio queue: loops, indexes and addresses that are nowhere,
// wrong directions, empty and endless buffers, jumping indexes.
#pragma once

#include "pci.h"

// Runs every attack on queue `index`. Before each, `restart` resets the device, sets all its queues
// up and lets it go; after the last it must work again. Returns the number of attacks; prints each.
uint64_t attack_queue(const char* name, uint16_t index, Queue* (*restart)(uint16_t index));
