#include "hypervisor/block/qcow2/tables.h"

#include <algorithm>
#include <set>

#include "base/assert.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr uint64_t kBitmapTableBytesMax = 32u << 20;  // of all bitmaps together

Result<BitmapEntry> parse_entry(std::span<const std::byte> bytes, const std::string& path,
                                uint64_t& size) {
    if (bytes.size() < 24) {
        return Error::corrupt("{}: the bitmap directory ends inside an entry", path);
    }
    BitmapEntry entry;
    entry.table_offset = load_be<uint64_t>(&bytes[0]);
    entry.table.resize(std::min<uint32_t>(load_be<uint32_t>(&bytes[8]), kBitmapTableBytesMax / 8));
    entry.flags = load_be<uint32_t>(&bytes[12]);
    entry.type = load_be<uint8_t>(&bytes[16]);
    entry.granularity_bits = load_be<uint8_t>(&bytes[17]);
    const uint64_t name_size = load_be<uint16_t>(&bytes[18]);
    const uint64_t extra_size = load_be<uint32_t>(&bytes[20]);
    size = (24 + extra_size + name_size + 7) & ~uint64_t{7};
    if (size > bytes.size() || name_size == 0 || entry.granularity_bits > 63 ||
        (entry.flags & ~(kBitmapInUse | kBitmapAuto | kBitmapExtraCompatible)) != 0) {
        return Error::corrupt(
            "{}: bitmap entry with a name of {} bytes, {} of extra data, "
            "granularity 2^{}, flags {:#x}",
            path, name_size, extra_size, entry.granularity_bits, entry.flags);
    }
    const auto extra = bytes.subspan(24, extra_size);
    entry.extra.assign(extra.begin(), extra.end());
    entry.name.assign(reinterpret_cast<const char*>(&bytes[24 + extra_size]), name_size);
    return entry;
}

}  // namespace

Result<void> read_bytes(IoPort& port, HostFile& file, uint64_t offset, void* to, uint64_t size,
                        const std::string& what) {
    const iovec vector{to, size};
    IoCall call;
    call.file = &file;
    call.offset = offset;
    call.size = size;
    call.vectors = {&vector, 1};
    KUMOI_ASSERT(!port.start(call));
    if (call.result < 0) {
        return Error::from_errno(-call.result, fmt::format("{} of {}", what, file.path));
    }
    return {};
}

Result<void> write_bytes(IoPort& port, HostFile& file, uint64_t offset, const void* from,
                         uint64_t size, const std::string& what) {
    const iovec vector{const_cast<void*>(from), size};
    IoCall call;
    call.kind = IoCall::Kind::Write;
    call.file = &file;
    call.offset = offset;
    call.size = size;
    call.vectors = {&vector, 1};
    KUMOI_ASSERT(!port.start(call));
    if (call.result < 0) {
        return Error::from_errno(-call.result, fmt::format("writing {} of {}", what, file.path));
    }
    return {};
}

Result<Header> read_header(IoPort& port, HostFile& file) {
    std::vector<std::byte> start(std::min<uint64_t>(file.size, 1u << kClusterBitsMax));
    TRY(read_bytes(port, file, 0, start.data(), std::min<uint64_t>(start.size(), 4096), "header"));
    if (start.size() > 4096) {
        const auto bits = load_be<uint32_t>(&start[20]);
        const uint64_t size = bits > 12 && bits <= kClusterBitsMax ? 1ull << bits : 4096;
        start.resize(std::min<uint64_t>(start.size(), size));
        TRY(read_bytes(port, file, 0, start.data(), start.size(), "header"));
    }
    return parse_header(start, file.path);
}

Result<std::vector<SnapshotEntry>> read_snapshot_table(IoPort& port, HostFile& file,
                                                       const Header& header) {
    std::vector<SnapshotEntry> entries;
    uint64_t at = header.snapshots_offset;
    const uint64_t start = at;
    for (uint32_t i = 0; i < header.snapshot_count; ++i) {
        std::byte fixed[56];
        if (at >= file.size || at - start > kSnapshotTableBytesMax) {
            return Error::corrupt("{}: snapshot table entry {} would be at {:#x} of {} bytes",
                                  file.path, i, at, file.size.load());
        }
        TRY(read_bytes(port, file, at, fixed, sizeof(fixed), "snapshot table"));
        SnapshotEntry entry;
        entry.l1_offset = load_be<uint64_t>(fixed);
        entry.l1_entries = load_be<uint32_t>(fixed + 8);
        const uint64_t id_size = load_be<uint16_t>(fixed + 12);
        const uint64_t name_size = load_be<uint16_t>(fixed + 14);
        const uint64_t extra_size = load_be<uint32_t>(fixed + 36);
        entry.vm_state_bytes = load_be<uint32_t>(fixed + 32);
        entry.time_s = load_be<uint32_t>(fixed + 16);
        if (extra_size >= 16) {
            entry.vm_state_bytes = load_be<uint64_t>(fixed + 40);
            entry.disk_size = load_be<uint64_t>(fixed + 48);
        }
        if (extra_size > 1024 || uint64_t{entry.l1_entries} * 8 > kL1BytesMax) {
            return Error::corrupt("{}: snapshot {} has {} bytes of extra data, {} L1 entries",
                                  file.path, i, extra_size, entry.l1_entries);
        }
        std::string text(id_size + name_size, '\0');
        TRY(read_bytes(port, file, at + 40 + extra_size, text.data(), text.size(), "snapshot"));
        entry.id = text.substr(0, id_size);
        entry.name = text.substr(id_size);
        entries.push_back(std::move(entry));
        at += (40 + extra_size + id_size + name_size + 7) & ~uint64_t{7};
    }
    if (!entries.empty()) {
        entries.back().table_bytes = at - start;
    }
    return entries;
}

Result<std::vector<BitmapEntry>> read_bitmap_directory(IoPort& port, HostFile& file,
                                                       const Header& header) {
    std::vector<BitmapEntry> entries;
    if (!header.bitmaps) {
        return entries;
    }
    const BitmapsExtension& extension = *header.bitmaps;
    if (extension.directory_offset >= file.size ||
        extension.directory_size > file.size - extension.directory_offset) {
        return Error::corrupt("{}: the bitmap directory has {} bytes at {:#x}, the file {}",
                              file.path, extension.directory_size, extension.directory_offset,
                              file.size.load());
    }
    std::vector<std::byte> directory(extension.directory_size);
    TRY(read_bytes(port, file, extension.directory_offset, directory.data(), directory.size(),
                   "bitmap directory"));
    std::span<const std::byte> left = directory;
    std::set<std::string> names;
    uint64_t total = 0;
    for (uint32_t i = 0; i < extension.count; ++i) {
        uint64_t size = 0;
        BitmapEntry entry = TRY(parse_entry(left, file.path, size));
        left = left.subspan(size);
        total += entry.table.size() * 8;
        if (!names.insert(entry.name).second || total > kBitmapTableBytesMax ||
            entry.table_offset % header.cluster_size() != 0 ||
            (!entry.table.empty() && entry.table_offset >= file.size)) {
            return Error::corrupt(
                "{}: bitmap {} of {}: name used twice, or a table of {} entries "
                "at {:#x}",
                file.path, i, extension.count, entry.table.size(), entry.table_offset);
        }
        TRY(read_bytes(port, file, entry.table_offset, entry.table.data(), entry.table.size() * 8,
                       "bitmap table"));
        for (uint64_t& word : entry.table) {
            word = to_be64(word);
            const uint64_t offset = word & kOffsetMask;
            if ((word & ~(kOffsetMask | 1)) != 0 || (offset != 0 && (word & 1) != 0) ||
                offset % header.cluster_size() != 0 || offset >= file.size) {
                return Error::corrupt("{}: a table entry of bitmap {} is {:#x}", file.path, i,
                                      word);
            }
        }
        entries.push_back(std::move(entry));
    }
    return entries;
}

}  // namespace kumoi::hypervisor::qcow2
