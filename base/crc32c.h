// CRC-32C (Castagnoli, RFC 3720 §12.1): the checksum of snapshot files and of the journals of
// handovers. Uses the processor's instruction where there is one. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kumoi {

// Of bytes that follow those whose checksum is `before`.
uint32_t crc32c(std::span<const std::byte> bytes, uint32_t before = 0);
// The same without the instruction: for tests.
uint32_t crc32c_portable(std::span<const std::byte> bytes, uint32_t before = 0);

}  // namespace kumoi
