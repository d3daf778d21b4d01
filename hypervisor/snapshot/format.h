// The layout of a snapshot file (docs/reference/snapshot-format.md):
//
//     header (4 KiB) | memory part, from kMemoryOffset | sections | block table | index | trailer
//
// Guest memory is cut into blocks of 64 KiB. Without compression a block lies at its fixed place,
// kMemoryOffset + 64 KiB * index, with holes where pages are zero; with compression it is one zstd
// frame anywhere in the memory part. The block table says which pages of a block are there and what
// their checksum is. The trailer is written last: a file without it was never finished.
// Structures are little-endian and have no padding.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace kumoi::hypervisor::snapshot {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kPageSize = 4096;
constexpr uint64_t kBlockSize = 64u << 10;
constexpr unsigned kBlockPages = kBlockSize / kPageSize;
constexpr uint64_t kChunkSize = 2u << 20;  // the unit of work of a writer or a filler
constexpr uint64_t kChunkBlocks = kChunkSize / kBlockSize;
constexpr uint64_t kMemoryOffset = 2u << 20;  // so that huge pages may map the memory part
constexpr uint64_t kMemorySizeMax = uint64_t{1} << 46;
constexpr uint64_t kIndexSizeMax = 64u << 20;

constexpr uint64_t kHeaderMagic = 0x504e'5349'4f4d'554b;   // "KUMOISNP"
constexpr uint64_t kTrailerMagic = 0x444e'4549'4f4d'554b;  // "KUMOIEND"
constexpr uint32_t kFormatVersion = 1;

struct Header {
    uint64_t magic;
    uint32_t format;
    uint32_t header_size;  // of this structure: a later release may have appended to it
    uint64_t memory_size;
    uint64_t memory_offset;
    uint32_t block_size;
    uint32_t page_size;
    uint8_t reserved[20];
    uint32_t check;  // CRC-32C of all before
};
static_assert(sizeof(Header) == 64);

struct Trailer {
    uint64_t magic;
    uint64_t index_offset;
    uint64_t index_size;
    uint32_t index_check;
    uint8_t reserved[32];
    uint32_t check;  // CRC-32C of all before
};
static_assert(sizeof(Trailer) == 64);

enum class Encoding : uint16_t { Raw = 0, Zstd = 1 };

struct BlockEntry {
    uint64_t location;  // of the frame in the file; 0 for Raw
    uint32_t length;    // of the frame; 0 for Raw
    uint32_t checksum;  // CRC-32C of the present pages, one after the other, not compressed
    uint16_t present;   // bit n: page n of the block is not all zero
    uint16_t encoding;
    uint32_t check;  // CRC-32C of all before
};
static_assert(sizeof(BlockEntry) == 24);

constexpr uint64_t block_count(uint64_t memory_size) {
    return (memory_size + kBlockSize - 1) / kBlockSize;
}

}  // namespace kumoi::hypervisor::snapshot
