// VirtioBlock's numbers and structures (virtio 1.2 §5.2), for the device, for the driver's side
// that a vhost-user disk needs, and for tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kumoi::hypervisor::virtio_block {

constexpr uint32_t kSectorSize = 512;

// §5.2.3: feature bits.
constexpr uint64_t kFeatureSizeMax = 1ull << 1;
constexpr uint64_t kFeatureSegMax = 1ull << 2;
constexpr uint64_t kFeatureReadOnly = 1ull << 5;
constexpr uint64_t kFeatureBlockSize = 1ull << 6;
constexpr uint64_t kFeatureFlush = 1ull << 9;
constexpr uint64_t kFeatureTopology = 1ull << 10;
constexpr uint64_t kFeatureConfigWriteCache = 1ull << 11;
constexpr uint64_t kFeatureMultiQueue = 1ull << 12;
constexpr uint64_t kFeatureDiscard = 1ull << 13;
constexpr uint64_t kFeatureWriteZeroes = 1ull << 14;

// §5.2.6: request types and answers.
constexpr uint32_t kTypeIn = 0;
constexpr uint32_t kTypeOut = 1;
constexpr uint32_t kTypeFlush = 4;
constexpr uint32_t kTypeGetId = 8;
constexpr uint32_t kTypeDiscard = 11;
constexpr uint32_t kTypeWriteZeroes = 13;
constexpr uint8_t kStatusOk = 0;
constexpr uint8_t kStatusIoError = 1;
constexpr uint8_t kStatusUnsupported = 2;
constexpr uint32_t kRangeUnmap = 1;

constexpr size_t kIdSize = 20;

struct Header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};
static_assert(sizeof(Header) == 16);
constexpr size_t kHeaderSize = sizeof(Header);

struct Range {  // struct virtio_blk_discard_write_zeroes
    uint64_t sector;
    uint32_t sector_count;
    uint32_t flags;
};
static_assert(sizeof(Range) == 16);

// §5.2.4: struct virtio_blk_config.
struct [[gnu::packed]] Config {
    uint64_t capacity;
    uint32_t size_max;
    uint32_t seg_max;
    uint8_t geometry[4];
    uint32_t blk_size;
    uint8_t physical_block_exp;
    uint8_t alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback;
    uint8_t unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors;
    uint32_t max_discard_seg;
    uint32_t discard_sector_alignment;
    uint32_t max_write_zeroes_sectors;
    uint32_t max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused1[3];
};
static_assert(sizeof(Config) == 60);
constexpr uint32_t kWritebackAt = 32;
static_assert(offsetof(Config, writeback) == kWritebackAt);

}  // namespace kumoi::hypervisor::virtio_block
