#include "hypervisor/snapshot/snapshot_reader.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include <sys/stat.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "hypervisor/snapshot/pages.h"

namespace kumoi::hypervisor {

using namespace snapshot;

namespace {

template <class T>
std::span<std::byte> writable_bytes(T& object) {
    return std::as_writable_bytes(std::span(&object, 1));
}

template <class T>
bool sealed(const T& object) {
    return object.check == crc32c(std::as_bytes(std::span(&object, 1)).first(offsetof(T, check)));
}

}  // namespace

Result<std::unique_ptr<SnapshotReader>> SnapshotReader::open(UniqueFd fd, std::string name) {
    std::unique_ptr<SnapshotReader> reader(new SnapshotReader(std::move(fd), std::move(name)));
    TRY(reader->load());
    return reader;
}

Result<void> SnapshotReader::read_exactly(std::span<std::byte> out, uint64_t offset) const {
    const size_t count = TRY_CONTEXT(pread_some(fd_.get(), out, offset), "snapshot {}", name_);
    if (count != out.size()) {
        return corrupt("it ends at byte {} of {} that are needed", offset + count,
                       offset + out.size());
    }
    return {};
}

Result<Header> SnapshotReader::load_header() {
    struct stat status {};
    if (fstat(fd_.get(), &status) != 0) {
        return Error::from_errno(errno, fmt::format("snapshot {}", name_));
    }
    if (!S_ISREG(status.st_mode)) {
        return Error::invalid("snapshot {} is not a file", name_);
    }
    file_size_ = static_cast<uint64_t>(status.st_size);
    Header header{};
    if (file_size_ < sizeof header + sizeof(Trailer)) {
        return Error::invalid("{} is not a snapshot: it has {} bytes", name_, file_size_);
    }
    TRY(read_exactly(writable_bytes(header), 0));
    if (header.magic != kHeaderMagic) {
        return Error::invalid("{} is not a snapshot: it does not begin like one", name_);
    }
    if (!sealed(header)) {
        return corrupt("the header's checksum is wrong");
    }
    if (header.format != kFormatVersion) {
        return Error::unsupported("snapshot {} has format {}, this release reads format {}", name_,
                                  header.format, kFormatVersion)
            .with_hint("use the release that wrote it, or a newer one");
    }
    if (header.memory_offset != kMemoryOffset || header.block_size != kBlockSize ||
        header.page_size != kPageSize) {
        return corrupt("the header asks for blocks of {} bytes from {}", header.block_size,
                       header.memory_offset);
    }
    return header;
}

Result<void> SnapshotReader::load() {
    const Header header = TRY(load_header());
    Trailer trailer{};
    TRY(read_exactly(writable_bytes(trailer), file_size_ - sizeof trailer));
    if (trailer.magic != kTrailerMagic || !sealed(trailer)) {
        return corrupt("it was never finished, or its end is missing")
            .with_hint("take the snapshot again");
    }
    if (trailer.index_size > kIndexSizeMax || !inside(trailer.index_offset, trailer.index_size)) {
        return corrupt("an index of {} bytes at {} is not in a file of {} bytes",
                       trailer.index_size, trailer.index_offset, file_size_);
    }
    std::vector<std::byte> body(trailer.index_size);
    TRY(read_exactly(body, trailer.index_offset));
    if (crc32c(body) != trailer.index_check) {
        return corrupt("the index's checksum is wrong");
    }
    index_ = TRY_CONTEXT(read_index(body), "snapshot {}", name_);
    fingerprint_ = trailer.index_check;
    const uint64_t size = index_.memory_size;
    if (size != header.memory_size || size == 0 || size % kPageSize != 0 || size > kMemorySizeMax) {
        return corrupt("{} bytes of memory in the index, {} in the header", size,
                       header.memory_size);
    }
    if (!inside(index_.table_offset, block_count() * sizeof(BlockEntry))) {
        return corrupt("the table of {} blocks at {} is not in a file of {} bytes", block_count(),
                       index_.table_offset, file_size_);
    }
    return load_sections();
}

Result<void> SnapshotReader::load_sections() {
    uint64_t total = 0;
    for (const IndexedSection& section : index_.sections) {
        total += std::min(section.size, kIndexSizeMax + 1);
        if (total > kIndexSizeMax || !inside(section.offset, section.size)) {
            return corrupt("section {} of {} bytes at {} is too large or not in the file",
                           section.name, section.size, section.offset);
        }
        std::vector<std::byte>& body = bodies_.emplace_back(section.size);
        TRY(read_exactly(body, section.offset));
        if (crc32c(body) != section.checksum) {
            return corrupt("the checksum of section {} is wrong", section.name);
        }
        TRY_CONTEXT(SectionReader::parse(section.name, section.version, body), "snapshot {}",
                    name_);
    }
    return {};
}

bool SnapshotReader::has_section(const std::string& name) const {
    return std::ranges::find(index_.sections, name, &IndexedSection::name) != index_.sections.end();
}

Result<SectionReader> SnapshotReader::section(const std::string& name) const {
    const auto found = std::ranges::find(index_.sections, name, &IndexedSection::name);
    if (found == index_.sections.end()) {
        return corrupt("section {} is missing", name);
    }
    const auto& body = bodies_[static_cast<size_t>(found - index_.sections.begin())];
    return SectionReader::parse(found->name, found->version, body);
}

uint64_t SnapshotReader::block_bytes(uint64_t block) const {
    return std::min(kBlockSize, index_.memory_size - block * kBlockSize);
}

Result<uint16_t> SnapshotReader::read_block(uint64_t block, std::span<std::byte> out) {
    if (block >= block_count() || out.size() != block_bytes(block)) {
        return Error::internal("block {} of {} asked for, into {} bytes", block, block_count(),
                               out.size());
    }
    BlockEntry entry{};
    TRY(read_exactly(writable_bytes(entry), index_.table_offset + block * sizeof entry));
    if (!sealed(entry)) {
        return corrupt("the table entry of block {} has a wrong checksum", block);
    }
    const unsigned pages = static_cast<unsigned>(out.size() / kPageSize);
    if (pages < kBlockPages && entry.present >> pages != 0) {
        return corrupt("block {} has pages {:#x} of {}", block, entry.present, pages);
    }
    if (entry.present == 0) {
        std::memset(out.data(), 0, out.size());
        return uint16_t{0};
    }
    switch (static_cast<Encoding>(entry.encoding)) {
        case Encoding::Raw: TRY(read_raw(block, entry.present, out)); break;
        case Encoding::Zstd: TRY(read_frame(block, entry, out)); break;
        default: return corrupt("block {} has encoding {}", block, entry.encoding);
    }
    uint32_t crc = 0;
    for_each_run(entry.present, [&](unsigned first, unsigned count) {
        crc = crc32c(out.subspan(first * kPageSize, count * kPageSize), crc);
    });
    if (crc != entry.checksum) {
        return corrupt("the checksum of guest memory at {:#x} is wrong", block * kBlockSize)
            .with_hint("the file was damaged after it was written: use another snapshot");
    }
    return entry.present;
}

// One read from the first page to the last one that is there: what lies between is holes or
// whatever a liar put there, and is cleared.
Result<void> SnapshotReader::read_raw(uint64_t block, uint16_t present,
                                      std::span<std::byte> out) const {
    const auto first = static_cast<unsigned>(std::countr_zero(present));
    const auto end = static_cast<unsigned>(std::bit_width(present));
    const uint64_t base = kMemoryOffset + block * kBlockSize;
    TRY(read_exactly(out.subspan(first * kPageSize, (end - first) * kPageSize),
                     base + first * kPageSize));
    const uint32_t absent = ~uint32_t{present} & ((1u << (out.size() / kPageSize)) - 1);
    for_each_run(absent, [&](unsigned page, unsigned count) {
        std::memset(out.data() + page * kPageSize, 0, count * kPageSize);
    });
    return {};
}

Result<void> SnapshotReader::read_frame(uint64_t block, const BlockEntry& entry,
                                        std::span<std::byte> out) const {
    const size_t size = static_cast<size_t>(std::popcount(entry.present)) * kPageSize;
    if (entry.length > ZSTD_COMPRESSBOUND(kBlockSize) || !inside(entry.location, entry.length)) {
        return corrupt("block {} has a frame of {} bytes at {}", block, entry.length,
                       entry.location);
    }
    std::byte frame[ZSTD_COMPRESSBOUND(kBlockSize)];
    TRY(read_exactly({frame, entry.length}, entry.location));
    std::byte pages[kBlockSize];
    if (ZSTD_decompress(pages, size, frame, entry.length) != size) {
        return corrupt("block {} does not decompress to {} bytes", block, size);
    }
    std::memset(out.data(), 0, out.size());
    size_t taken = 0;
    for_each_run(entry.present, [&](unsigned first, unsigned count) {
        std::memcpy(out.data() + first * kPageSize, pages + taken, count * kPageSize);
        taken += count * kPageSize;
    });
    return {};
}

}  // namespace kumoi::hypervisor
