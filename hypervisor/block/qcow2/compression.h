// Compressed clusters: raw deflate with a window of 4 KiB, or one zstd frame. Any thread.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "hypervisor/block/qcow2/format.h"

namespace kumoi::hypervisor::qcow2 {

// Fills `cluster` exactly; what follows the stream in `packed` is ignored. False when it cannot.
bool decompress(Compression method, std::span<const std::byte> packed,
                std::span<std::byte> cluster);
// Empty when it does not get smaller.
std::vector<std::byte> compress(Compression method, std::span<const std::byte> cluster);

}  // namespace kumoi::hypervisor::qcow2
