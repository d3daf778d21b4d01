// Memory for coroutine frames: a few per thread are kept for the next request, so that a request
// costs no malloc. Under AddressSanitizer plain malloc, to find uses after the end.
#pragma once

#include <cstddef>

namespace kumoi::hypervisor::qcow2 {

void* frame_allocate(size_t size);
void frame_free(void* memory, size_t size);

}  // namespace kumoi::hypervisor::qcow2
