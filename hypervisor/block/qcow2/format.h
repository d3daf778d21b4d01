// The qcow2 format: header, header extensions, table entries. docs/reference/qcow2.md says what of
// it is supported. Parsing is hostile-input safe: every field is checked here or where it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace kumoi::hypervisor::qcow2 {

inline constexpr uint32_t kMagic = 0x514649fb;  // "QFI\xfb"
inline constexpr uint32_t kClusterBitsMin = 9;
inline constexpr uint32_t kClusterBitsMax = 21;
inline constexpr uint32_t kClusterBitsMinExtended = 14;
inline constexpr uint32_t kHeaderSizeV2 = 72;
inline constexpr uint32_t kHeaderSizeV3 = 112;
inline constexpr uint64_t kL1BytesMax = 32u << 20;
inline constexpr uint64_t kRefcountTableBytesMax = 8u << 20;
inline constexpr uint32_t kSnapshotsMax = 65536;
inline constexpr uint64_t kSnapshotTableBytesMax = 64u << 20;
inline constexpr uint32_t kBackingNameMax = 1023;
inline constexpr uint32_t kBitmapsMax = 65535;
inline constexpr uint64_t kBitmapDirectoryBytesMax = 64u << 20;
inline constexpr uint64_t kVirtualSizeMax = 1ull << 61;
inline constexpr uint32_t kSubclusters = 32;

inline constexpr uint64_t kIncompatibleDirty = 1;
inline constexpr uint64_t kIncompatibleCorrupt = 2;
inline constexpr uint64_t kIncompatibleDataFile = 4;
inline constexpr uint64_t kIncompatibleCompression = 8;
inline constexpr uint64_t kIncompatibleExtendedL2 = 16;
inline constexpr uint64_t kCompatibleLazyRefcounts = 1;
inline constexpr uint64_t kAutoclearBitmaps = 1;

// Entries of L1 and L2 tables.
inline constexpr uint64_t kEntryCopied = 1ull << 63;  // refcount is exactly 1
inline constexpr uint64_t kEntryCompressed = 1ull << 62;
inline constexpr uint64_t kEntryZero = 1;
inline constexpr uint64_t kOffsetMask = 0x00fffffffffffe00ull;
inline constexpr uint64_t kL1Reserved = 0x7f000000000001ffull;
inline constexpr uint64_t kL2Reserved = 0x3f000000000001feull;
inline constexpr uint64_t kRefcountTableReserved = 0x1ff;

inline constexpr uint32_t kExtensionEnd = 0;
inline constexpr uint32_t kExtensionBackingFormat = 0xe2792aca;
inline constexpr uint32_t kExtensionFeatureNames = 0x6803f857;
inline constexpr uint32_t kExtensionBitmaps = 0x23852875;
inline constexpr uint32_t kExtensionEncryption = 0x0537be77;
inline constexpr uint32_t kExtensionDataFile = 0x44415441;

enum class Compression : uint8_t { Zlib = 0, Zstd = 1 };

template <class T>
T load_be(const void* from) {
    T value;
    std::memcpy(&value, from, sizeof(value));
    if constexpr (sizeof(T) == 1) {
        return value;
    } else if constexpr (sizeof(T) == 2) {
        return __builtin_bswap16(value);
    } else if constexpr (sizeof(T) == 4) {
        return __builtin_bswap32(value);
    } else {
        return __builtin_bswap64(value);
    }
}
inline uint64_t to_be64(uint64_t value) {
    return __builtin_bswap64(value);
}
template <class T>
void store_be(void* to, T value) {
    value = load_be<T>(&value);
    std::memcpy(to, &value, sizeof(value));
}

struct BitmapsExtension {
    uint32_t count = 0;
    uint64_t directory_size = 0;
    uint64_t directory_offset = 0;
};

struct Extension {
    uint32_t type = 0;
    std::vector<std::byte> data;
};

struct Header {
    uint32_t version = 3;
    uint32_t cluster_bits = 16;
    uint64_t size = 0;  // bytes, of the virtual disk
    uint32_t l1_entries = 0;
    uint64_t l1_offset = 0;
    uint64_t refcount_table_offset = 0;
    uint32_t refcount_table_clusters = 0;
    uint32_t snapshot_count = 0;
    uint64_t snapshots_offset = 0;
    uint64_t incompatible = 0;
    uint64_t compatible = 0;
    uint64_t autoclear = 0;
    uint32_t refcount_order = 4;
    Compression compression = Compression::Zlib;
    std::string backing_file;    // empty: none
    std::string backing_format;  // empty: not stated
    std::optional<BitmapsExtension> bitmaps;
    std::vector<Extension> others;          // kept as they are
    std::vector<std::byte> unknown_fields;  // of the header itself, past byte 112

    uint64_t cluster_size() const { return 1ull << cluster_bits; }
    bool extended_l2() const { return (incompatible & kIncompatibleExtendedL2) != 0; }
    bool lazy_refcounts() const { return (compatible & kCompatibleLazyRefcounts) != 0; }
    uint32_t entry_size() const { return extended_l2() ? 16 : 8; }
    uint64_t l2_entries() const { return cluster_size() / entry_size(); }  // a table
    uint64_t bytes_per_l2() const { return l2_entries() << cluster_bits; }
    uint64_t refcounts_per_block() const { return cluster_size() * 8 >> refcount_order; }
    uint64_t cluster_count() const {
        return (size >> cluster_bits) + ((size & (cluster_size() - 1)) != 0 ? 1 : 0);
    }
    uint64_t l1_entries_needed() const;
    uint64_t subcluster_size() const { return cluster_size() / kSubclusters; }
};

bool looks_like_qcow2(std::span<const std::byte> start);

// `start` is the first cluster of the file, or all of a shorter file. `name` is for messages.
Result<Header> parse_header(std::span<const std::byte> start, const std::string& name);
// The whole first cluster. Error when the extensions do not fit.
Result<std::vector<std::byte>> serialize_header(const Header& header);

// Where a compressed cluster lies.
struct CompressedRange {
    uint64_t offset = 0;
    uint64_t size = 0;  // bytes, at most; the stream may end before
};
CompressedRange compressed_range(uint64_t entry, uint32_t cluster_bits);
// 0 when it cannot be expressed.
uint64_t compressed_entry(uint64_t offset, uint64_t size, uint32_t cluster_bits);

}  // namespace kumoi::hypervisor::qcow2
