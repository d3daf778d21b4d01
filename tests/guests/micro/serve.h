// Whether a virtio device serves: one good request, after whatever was done to it before.
#pragma once

#include "pci.h"

// The device has just been set up with no feature but VERSION_1, `queues` are all it has. Returns
// NULL if it did what was asked, else what it did not. Counts those it knows how to ask.
const char* serve(Virtio* device, Queue* queues, uint64_t* served);
