#include "hypervisor/snapshot/snapshot_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "hypervisor/snapshot/index.h"
#include "hypervisor/snapshot/pages.h"

namespace kumoi::hypervisor {

using namespace snapshot;

namespace {

constexpr int kZstdLevel = 1;  // memory pages: speed counts

template <class T>
std::span<const std::byte> bytes_of(const T& object) {
    return std::as_bytes(std::span(&object, 1));
}

template <class T>
void seal(T& object) {
    object.check = crc32c(bytes_of(object).first(offsetof(T, check)));
}

uint32_t checksum_of(std::span<const std::byte> block, uint16_t present) {
    uint32_t crc = 0;
    for_each_run(present, [&](unsigned first, unsigned count) {
        crc = crc32c(block.subspan(first * kPageSize, count * kPageSize), crc);
    });
    return crc;
}

}  // namespace

SnapshotWriter::SnapshotWriter(SnapshotOutput output, uint64_t memory_size, Compression compression)
    : output_(std::move(output)),
      memory_size_(memory_size),
      compression_(compression),
      table_(block_count(memory_size)),
      end_(compression == Compression::None ? kMemoryOffset + memory_size : kMemoryOffset) {
    for (BlockEntry& entry : table_) {
        seal(entry);  // a block never written is all zero
    }
}

SnapshotWriter::~SnapshotWriter() {
    if (finished_ || !output_.fd.is_open()) {
        return;
    }
    if (!output_.partial.empty()) {
        ::unlink(output_.partial.c_str());
    } else if (::ftruncate(output_.fd.get(), 0) != 0) {
        log_warn("snapshot", "an unfinished snapshot could not be emptied",
                 {{"error", std::strerror(errno)}});
    }
}

Result<std::unique_ptr<SnapshotWriter>> SnapshotWriter::create(SnapshotOutput output,
                                                               uint64_t memory_size,
                                                               Compression compression) {
    if (memory_size == 0 || memory_size % kPageSize != 0 || memory_size > kMemorySizeMax) {
        return Error::invalid("{} bytes of memory cannot be saved: whole pages up to {} can",
                              memory_size, kMemorySizeMax);
    }
    std::unique_ptr<SnapshotWriter> writer(
        new SnapshotWriter(std::move(output), memory_size, compression));
    const int fd = writer->output_.fd.get();
    if (::ftruncate(fd, 0) != 0 || ::ftruncate(fd, static_cast<off_t>(writer->end_.load())) != 0) {
        return Error::from_errno(errno, "sizing the snapshot");
    }
    Header header{};
    header.magic = kHeaderMagic;
    header.format = kFormatVersion;
    header.header_size = sizeof(Header);
    header.memory_size = memory_size;
    header.memory_offset = kMemoryOffset;
    header.block_size = kBlockSize;
    header.page_size = kPageSize;
    seal(header);
    TRY(pwrite_all(fd, bytes_of(header), 0));
    return writer;
}

Result<void> SnapshotWriter::write_blocks(uint64_t first_block, std::span<const std::byte> bytes) {
    uint64_t block = first_block;
    uint64_t zero = 0;
    while (!bytes.empty()) {
        KUMOI_ASSERT(block < table_.size());
        const auto one = bytes.first(std::min<size_t>(bytes.size(), kBlockSize));
        const uint16_t present = present_pages(one);
        BlockEntry entry{};
        entry.present = present;
        entry.checksum = checksum_of(one, present);
        zero += one.size() / kPageSize - static_cast<unsigned>(std::popcount(present));
        if (present != 0) {
            TRY(compression_ == Compression::None ? write_raw(block, one, present)
                                                  : write_frame(one, present, entry));
        }
        seal(entry);
        table_[block++] = entry;
        bytes = bytes.subspan(one.size());
    }
    zero_pages_.fetch_add(zero, std::memory_order_relaxed);
    return {};
}

Result<void> SnapshotWriter::write_raw(uint64_t block, std::span<const std::byte> bytes,
                                       uint16_t present) {
    const uint64_t base = kMemoryOffset + block * kBlockSize;
    Result<void> done;
    for_each_run(present, [&](unsigned first, unsigned count) {
        if (done) {
            const auto run = bytes.subspan(first * kPageSize, count * kPageSize);
            done = pwrite_all(output_.fd.get(), run, base + first * kPageSize);
            bytes_written_.fetch_add(run.size(), std::memory_order_relaxed);
        }
    });
    return done;
}

Result<void> SnapshotWriter::write_frame(std::span<const std::byte> bytes, uint16_t present,
                                         BlockEntry& entry) {
    std::byte pages[kBlockSize];
    size_t size = 0;
    for_each_run(present, [&](unsigned first, unsigned count) {
        std::memcpy(pages + size, bytes.data() + first * kPageSize, count * kPageSize);
        size += count * kPageSize;
    });
    std::byte frame[ZSTD_COMPRESSBOUND(kBlockSize)];
    const size_t length = ZSTD_compress(frame, sizeof frame, pages, size, kZstdLevel);
    if (ZSTD_isError(length) != 0) {
        return Error::internal("zstd: {}", ZSTD_getErrorName(length));
    }
    entry.location = TRY(append({frame, length}));
    entry.length = static_cast<uint32_t>(length);
    entry.encoding = static_cast<uint16_t>(Encoding::Zstd);
    return {};
}

Result<uint64_t> SnapshotWriter::append(std::span<const std::byte> bytes) {
    const uint64_t at = end_.fetch_add(bytes.size());
    TRY(pwrite_all(output_.fd.get(), bytes, at));
    bytes_written_.fetch_add(bytes.size(), std::memory_order_relaxed);
    return at;
}

Result<void> SnapshotWriter::finish(const SnapshotInfo& info,
                                    const std::vector<SectionWriter>& sections) {
    SnapshotIndex index;
    index.info = info;
    for (const SectionWriter& section : sections) {
        const uint64_t offset = TRY(append(section.body()));
        index.sections.push_back({section.name(), section.version(), offset, section.body().size(),
                                  crc32c(section.body())});
    }
    index.table_offset = TRY(append(std::as_bytes(std::span(table_))));
    index.memory_size = memory_size_;
    const SectionWriter written = write_index(index);
    Trailer trailer{};
    trailer.magic = kTrailerMagic;
    trailer.index_size = written.body().size();
    trailer.index_offset = TRY(append(written.body()));
    trailer.index_check = crc32c(written.body());
    seal(trailer);
    // The trailer makes it a snapshot: everything before it must be on the disk first.
    if (::fdatasync(output_.fd.get()) != 0) {
        return Error::from_errno(errno, "writing the snapshot to the disk");
    }
    TRY(append(bytes_of(trailer)));
    TRY(make_durable());
    finished_ = true;
    return {};
}

Result<void> SnapshotWriter::make_durable() {
    if (::fsync(output_.fd.get()) != 0) {
        return Error::from_errno(errno, "writing the snapshot to the disk");
    }
    if (output_.partial.empty()) {
        return {};
    }
    if (::rename(output_.partial.c_str(), output_.path.c_str()) != 0) {
        return Error::from_errno(errno, fmt::format("naming the snapshot {}", output_.path));
    }
    const size_t slash = output_.path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : output_.path.substr(0, slash + 1);
    const UniqueFd directory = TRY(open_file(folder, O_RDONLY | O_DIRECTORY));
    if (::fsync(directory.get()) != 0) {
        return Error::from_errno(errno, fmt::format("making {} durable", output_.path));
    }
    return {};
}

}  // namespace kumoi::hypervisor
