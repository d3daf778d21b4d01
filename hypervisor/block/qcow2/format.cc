#include "hypervisor/block/qcow2/format.h"

#include <algorithm>
#include <array>

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr uint64_t kIncompatibleKnown = kIncompatibleDirty | kIncompatibleCorrupt |
                                        kIncompatibleDataFile | kIncompatibleCompression |
                                        kIncompatibleExtendedL2;
constexpr size_t kFeatureNameSize = 48;

// QEMU's names, so that an older program can say what it does not know.
struct FeatureName {
    uint8_t type;
    uint8_t bit;
    const char* name;
};
constexpr std::array kFeatureNames = {
    FeatureName{0, 0, "dirty bit"},
    FeatureName{0, 1, "corrupt bit"},
    FeatureName{0, 2, "external data file"},
    FeatureName{0, 3, "compression type"},
    FeatureName{0, 4, "extended L2 entries"},
    FeatureName{1, 0, "lazy refcounts"},
    FeatureName{2, 0, "bitmaps"},
    FeatureName{2, 1, "raw external data"},
};

class HeaderParser {
public:
    HeaderParser(std::span<const std::byte> bytes, const std::string& name)
        : bytes_(bytes), name_(name) {}
    Result<Header> parse();

private:
    template <class T>
    T field(size_t offset) const {
        return load_be<T>(bytes_.data() + offset);
    }
    Result<void> parse_sizes();
    Result<void> parse_version3();
    Result<void> parse_extensions();
    Result<void> take_extension(uint32_t type, std::span<const std::byte> data);
    Result<void> check_features();
    Result<void> check_tables();
    Result<void> parse_backing();
    std::string feature_name(uint8_t type, unsigned bit) const;

    std::span<const std::byte> bytes_;
    const std::string& name_;
    Header header_;
    uint32_t header_length_ = kHeaderSizeV2;
    uint8_t compression_ = 0;
    std::vector<std::byte> feature_names_;
};

Result<Header> HeaderParser::parse() {
    if (!looks_like_qcow2(bytes_) || bytes_.size() < kHeaderSizeV2) {
        return Error::invalid("{} is not a qcow2 image: it has {} bytes or another magic number",
                              name_, bytes_.size());
    }
    TRY(parse_sizes());
    if (header_.version == 3) {
        TRY(parse_version3());
    }
    bytes_ = bytes_.first(std::min<size_t>(bytes_.size(), header_.cluster_size()));
    TRY(parse_extensions());
    TRY(check_features());
    TRY(check_tables());
    TRY(parse_backing());
    return std::move(header_);
}

Result<void> HeaderParser::parse_sizes() {
    header_.version = field<uint32_t>(4);
    if (header_.version != 2 && header_.version != 3) {
        return Error::unsupported("{} is a qcow2 image of version {}; 2 and 3 are known", name_,
                                  header_.version);
    }
    header_.cluster_bits = field<uint32_t>(20);
    if (header_.cluster_bits < kClusterBitsMin || header_.cluster_bits > kClusterBitsMax) {
        return Error::unsupported("{}: cluster_bits is {}; {} to {} are supported", name_,
                                  header_.cluster_bits, kClusterBitsMin, kClusterBitsMax);
    }
    header_.size = field<uint64_t>(24);
    if (header_.size > kVirtualSizeMax) {
        return Error::too_large("{}: a virtual size of {} bytes is over the limit of 2 EiB", name_,
                                header_.size);
    }
    if (const auto method = field<uint32_t>(32); method != 0) {
        return Error::unsupported("{} is encrypted (method {}: {})", name_, method,
                                  method == 1   ? "AES"
                                  : method == 2 ? "LUKS"
                                                : "unknown")
            .with_hint("decrypt it with qemu-img convert");
    }
    header_.l1_entries = field<uint32_t>(36);
    header_.l1_offset = field<uint64_t>(40);
    header_.refcount_table_offset = field<uint64_t>(48);
    header_.refcount_table_clusters = field<uint32_t>(56);
    header_.snapshot_count = field<uint32_t>(60);
    header_.snapshots_offset = field<uint64_t>(64);
    return {};
}

Result<void> HeaderParser::parse_version3() {
    if (bytes_.size() < 104) {
        return Error::corrupt("{}: the file has {} bytes, its header at least 104", name_,
                              bytes_.size());
    }
    header_.incompatible = field<uint64_t>(72);
    header_.compatible = field<uint64_t>(80);
    header_.autoclear = field<uint64_t>(88);
    header_.refcount_order = field<uint32_t>(96);
    header_length_ = field<uint32_t>(100);
    if (header_.refcount_order > 6) {
        return Error::corrupt("{}: refcount_order is {}, at most 6 is possible", name_,
                              header_.refcount_order);
    }
    if (header_length_ < 104 || header_length_ % 8 != 0 ||
        header_length_ > std::min<uint64_t>(bytes_.size(), header_.cluster_size())) {
        return Error::corrupt(
            "{}: header_length {} is not a multiple of 8 inside the first cluster", name_,
            header_length_);
    }
    if (header_length_ > 104) {
        compression_ = field<uint8_t>(104);
    }
    if (header_length_ > kHeaderSizeV3) {
        const auto unknown = bytes_.subspan(kHeaderSizeV3, header_length_ - kHeaderSizeV3);
        header_.unknown_fields.assign(unknown.begin(), unknown.end());
    }
    return {};
}

Result<void> HeaderParser::parse_extensions() {
    size_t at = header_length_;
    // Byte 8: in version 2 images extensions end where the backing file name begins, too.
    const auto backing = field<uint64_t>(8);
    const size_t end = backing != 0
                           ? static_cast<size_t>(std::min<uint64_t>(backing, bytes_.size()))
                           : bytes_.size();
    while (at + 8 <= end) {
        const auto type = field<uint32_t>(at);
        const auto size = field<uint32_t>(at + 4);
        if (type == kExtensionEnd) {
            return {};
        }
        if (size > end - at - 8) {
            return Error::corrupt(
                "{}: header extension {:#x} at byte {} has {} bytes, only {} are "
                "left",
                name_, type, at, size, end - at - 8);
        }
        TRY(take_extension(type, bytes_.subspan(at + 8, size)));
        at += 8 + ((static_cast<size_t>(size) + 7) & ~size_t{7});
    }
    return {};
}

Result<void> HeaderParser::take_extension(uint32_t type, std::span<const std::byte> data) {
    const auto text = [&] {
        return std::string(reinterpret_cast<const char*>(data.data()), data.size());
    };
    switch (type) {
        case kExtensionBackingFormat: header_.backing_format = text(); return {};
        case kExtensionFeatureNames: feature_names_.assign(data.begin(), data.end()); return {};
        case kExtensionEncryption:
            return Error::unsupported("{} is encrypted", name_)
                .with_hint("decrypt it with qemu-img convert");
        case kExtensionBitmaps: break;
        default: header_.others.push_back({type, {data.begin(), data.end()}}); return {};
    }
    if (data.size() != 24) {
        return Error::corrupt("{}: the bitmaps extension has {} bytes, not 24", name_, data.size());
    }
    const BitmapsExtension bitmaps{load_be<uint32_t>(data.data()), load_be<uint64_t>(&data[8]),
                                   load_be<uint64_t>(&data[16])};
    if (bitmaps.count == 0 || bitmaps.count > kBitmapsMax ||
        bitmaps.directory_size > kBitmapDirectoryBytesMax ||
        bitmaps.directory_offset % header_.cluster_size() != 0) {
        return Error::corrupt("{}: bitmaps extension: {} bitmaps, directory of {} bytes at {:#x}",
                              name_, bitmaps.count, bitmaps.directory_size,
                              bitmaps.directory_offset);
    }
    header_.bitmaps = bitmaps;
    return {};
}

std::string HeaderParser::feature_name(uint8_t type, unsigned bit) const {
    for (size_t at = 0; at + kFeatureNameSize <= feature_names_.size(); at += kFeatureNameSize) {
        if (static_cast<uint8_t>(feature_names_[at]) == type &&
            static_cast<uint8_t>(feature_names_[at + 1]) == bit) {
            const char* name = reinterpret_cast<const char*>(&feature_names_[at + 2]);
            std::string text(name, strnlen(name, kFeatureNameSize - 2));
            std::replace_if(
                text.begin(), text.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
            return fmt::format("bit {} \"{}\"", bit, text);
        }
    }
    return fmt::format("bit {}", bit);
}

Result<void> HeaderParser::check_features() {
    std::string unknown;
    for (unsigned bit = 0; bit < 64; ++bit) {
        if ((header_.incompatible & ~kIncompatibleKnown) >> bit & 1) {
            unknown += (unknown.empty() ? "" : ", ") + feature_name(0, bit);
        }
    }
    if (!unknown.empty()) {
        return Error::unsupported("{} uses incompatible features this release does not know: {}",
                                  name_, unknown);
    }
    if ((header_.incompatible & kIncompatibleDataFile) != 0) {
        return Error::unsupported("{} keeps its data in an external data file", name_)
            .with_hint("copy it into one file with qemu-img convert");
    }
    const bool has_compression = (header_.incompatible & kIncompatibleCompression) != 0;
    if (has_compression != (compression_ != 0) || compression_ > 1) {
        return Error::unsupported(
            "{}: compression type {} with feature bit {}; zlib (0, bit off) "
            "and zstd (1, bit on) are known",
            name_, compression_, has_compression ? "on" : "off");
    }
    header_.compression = static_cast<Compression>(compression_);
    if (header_.extended_l2() && header_.cluster_bits < kClusterBitsMinExtended) {
        return Error::corrupt("{}: extended L2 entries need clusters of 16 KiB, these have {}",
                              name_, header_.cluster_size());
    }
    if ((header_.autoclear & kAutoclearBitmaps) != 0 && !header_.bitmaps) {
        return Error::corrupt("{}: the bitmaps feature bit is set, but there are none", name_);
    }
    return {};
}

Result<void> HeaderParser::check_tables() {
    const uint64_t cluster = header_.cluster_size();
    const auto bad_offset = [&](uint64_t offset) {
        return offset == 0 || offset % cluster != 0 || offset > kOffsetMask;
    };
    if (uint64_t{header_.l1_entries} * 8 > kL1BytesMax) {
        return Error::too_large("{}: an L1 table of {} entries is over the limit of 32 MiB", name_,
                                header_.l1_entries);
    }
    if (header_.l1_entries < header_.l1_entries_needed()) {
        return Error::corrupt("{}: the L1 table has {} entries, a disk of {} bytes needs {}", name_,
                              header_.l1_entries, header_.size, header_.l1_entries_needed());
    }
    if (header_.l1_entries > 0 && bad_offset(header_.l1_offset)) {
        return Error::corrupt("{}: the L1 table is at {:#x}, which is no cluster", name_,
                              header_.l1_offset);
    }
    if (header_.refcount_table_clusters * cluster > kRefcountTableBytesMax) {
        return Error::too_large("{}: a refcount table of {} clusters is over the limit of 8 MiB",
                                name_, header_.refcount_table_clusters);
    }
    if (header_.refcount_table_clusters == 0 || bad_offset(header_.refcount_table_offset)) {
        return Error::corrupt("{}: the refcount table has {} clusters at {:#x}", name_,
                              header_.refcount_table_clusters, header_.refcount_table_offset);
    }
    if (header_.snapshot_count > kSnapshotsMax) {
        return Error::too_large("{}: {} snapshots are more than {}", name_, header_.snapshot_count,
                                kSnapshotsMax);
    }
    if (header_.snapshot_count > 0 && bad_offset(header_.snapshots_offset)) {
        return Error::corrupt("{}: the snapshot table is at {:#x}, which is no cluster", name_,
                              header_.snapshots_offset);
    }
    return {};
}

Result<void> HeaderParser::parse_backing() {
    const auto offset = field<uint64_t>(8);
    const auto size = field<uint32_t>(16);
    if (offset == 0) {
        header_.backing_format.clear();
        return {};
    }
    if (size == 0 || size > kBackingNameMax || offset > bytes_.size() ||
        size > bytes_.size() - offset) {
        return Error::corrupt(
            "{}: a backing file name of {} bytes at {} is not in the first cluster "
            "or longer than {}",
            name_, size, offset, kBackingNameMax);
    }
    header_.backing_file.assign(reinterpret_cast<const char*>(bytes_.data()) + offset, size);
    if (header_.backing_file.find('\0') != std::string::npos) {
        return Error::corrupt("{}: the backing file name has a zero byte in it", name_);
    }
    return {};
}

void append_extension(std::vector<std::byte>& bytes, uint32_t type,
                      std::span<const std::byte> data) {
    const size_t at = bytes.size();
    bytes.resize(at + 8 + ((data.size() + 7) & ~size_t{7}));
    store_be<uint32_t>(&bytes[at], type);
    store_be<uint32_t>(&bytes[at + 4], static_cast<uint32_t>(data.size()));
    if (!data.empty()) {
        std::memcpy(&bytes[at + 8], data.data(), data.size());
    }
}

std::vector<std::byte> feature_name_table() {
    std::vector<std::byte> table(kFeatureNames.size() * kFeatureNameSize);
    for (size_t i = 0; i < kFeatureNames.size(); ++i) {
        std::byte* entry = &table[i * kFeatureNameSize];
        entry[0] = static_cast<std::byte>(kFeatureNames[i].type);
        entry[1] = static_cast<std::byte>(kFeatureNames[i].bit);
        std::memcpy(entry + 2, kFeatureNames[i].name, std::strlen(kFeatureNames[i].name));
    }
    return table;
}

void write_fields(const Header& header, std::vector<std::byte>& bytes) {
    store_be<uint32_t>(&bytes[0], kMagic);
    store_be<uint32_t>(&bytes[4], header.version);
    store_be<uint32_t>(&bytes[20], header.cluster_bits);
    store_be<uint64_t>(&bytes[24], header.size);
    store_be<uint32_t>(&bytes[36], header.l1_entries);
    store_be<uint64_t>(&bytes[40], header.l1_offset);
    store_be<uint64_t>(&bytes[48], header.refcount_table_offset);
    store_be<uint32_t>(&bytes[56], header.refcount_table_clusters);
    store_be<uint32_t>(&bytes[60], header.snapshot_count);
    store_be<uint64_t>(&bytes[64], header.snapshots_offset);
    if (header.version < 3) {
        return;
    }
    store_be<uint64_t>(&bytes[72], header.incompatible);
    store_be<uint64_t>(&bytes[80], header.compatible);
    store_be<uint64_t>(&bytes[88], header.autoclear);
    store_be<uint32_t>(&bytes[96], header.refcount_order);
    store_be<uint32_t>(&bytes[100],
                       static_cast<uint32_t>(kHeaderSizeV3 + header.unknown_fields.size()));
    bytes[104] = static_cast<std::byte>(header.compression);
    if (!header.unknown_fields.empty()) {
        std::memcpy(&bytes[kHeaderSizeV3], header.unknown_fields.data(),
                    header.unknown_fields.size());
    }
}

}  // namespace

uint64_t Header::l1_entries_needed() const {
    const uint64_t per_l2 = bytes_per_l2();
    return size / per_l2 + (size % per_l2 != 0 ? 1 : 0);
}

bool looks_like_qcow2(std::span<const std::byte> start) {
    return start.size() >= 4 && load_be<uint32_t>(start.data()) == kMagic;
}

Result<Header> parse_header(std::span<const std::byte> start, const std::string& name) {
    return HeaderParser(start, name).parse();
}

Result<std::vector<std::byte>> serialize_header(const Header& header) {
    std::vector<std::byte> bytes(header.version < 3 ? kHeaderSizeV2
                                                    : kHeaderSizeV3 + header.unknown_fields.size());
    write_fields(header, bytes);
    if (!header.backing_format.empty()) {
        append_extension(bytes, kExtensionBackingFormat,
                         std::as_bytes(std::span(header.backing_format)));
    }
    if (header.bitmaps) {
        std::array<std::byte, 24> data{};
        store_be<uint32_t>(data.data(), header.bitmaps->count);
        store_be<uint64_t>(&data[8], header.bitmaps->directory_size);
        store_be<uint64_t>(&data[16], header.bitmaps->directory_offset);
        append_extension(bytes, kExtensionBitmaps, data);
    }
    for (const Extension& other : header.others) {
        append_extension(bytes, other.type, other.data);
    }
    // The names are a courtesy: left out where they do not fit (clusters of 512 bytes), and where
    // they would push the backing file's name out of the first sector, which is written at once.
    if (header.version >= 3 && header.backing_file.empty() &&
        bytes.size() + 16 + kFeatureNames.size() * kFeatureNameSize <= header.cluster_size()) {
        append_extension(bytes, kExtensionFeatureNames, feature_name_table());
    }
    append_extension(bytes, kExtensionEnd, {});
    if (!header.backing_file.empty()) {
        const size_t at = bytes.size();
        store_be<uint64_t>(&bytes[8], at);
        store_be<uint32_t>(&bytes[16], static_cast<uint32_t>(header.backing_file.size()));
        bytes.resize(at + header.backing_file.size());
        std::memcpy(&bytes[at], header.backing_file.data(), header.backing_file.size());
    }
    if (bytes.size() > header.cluster_size()) {
        return Error::too_large("a header of {} bytes does not fit in a cluster of {}",
                                bytes.size(), header.cluster_size())
            .with_hint("use a shorter backing file name or larger clusters");
    }
    bytes.resize(header.cluster_size());
    return bytes;
}

CompressedRange compressed_range(uint64_t entry, uint32_t cluster_bits) {
    const uint32_t shift = 62 - (cluster_bits - 8);
    const uint64_t offset = entry & ((1ull << shift) - 1);
    const uint64_t sectors = ((entry & ~(kEntryCopied | kEntryCompressed)) >> shift) + 1;
    return {offset, sectors * 512 - (offset & 511)};
}

uint64_t compressed_entry(uint64_t offset, uint64_t size, uint32_t cluster_bits) {
    const uint32_t shift = 62 - (cluster_bits - 8);
    const uint64_t sectors = ((offset + size - 1) >> 9) - (offset >> 9);
    if (offset >> shift != 0 || offset > kOffsetMask + 511 || sectors >> (62 - shift) != 0) {
        return 0;
    }
    return kEntryCompressed | sectors << shift | offset;
}

}  // namespace kumoi::hypervisor::qcow2
