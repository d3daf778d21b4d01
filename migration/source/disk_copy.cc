#include "migration/source/disk_copy.h"

#include <algorithm>
#include <cstring>

#include "hypervisor/block/live/copy_gate.h"
#include "hypervisor/block/qcow2/blocking_port.h"

namespace kumoi::migration {

namespace {

using hypervisor::qcow2::all_zero;
using hypervisor::qcow2::BlockingPort;
using hypervisor::qcow2::BlockSource;
using hypervisor::qcow2::ExtentKind;
using hypervisor::qcow2::MappedExtent;

// What the image itself says of a stretch, without reading it.
enum class Content { Absent, Zero, Data };

Result<Content> content_of(BlockSource& source, uint64_t offset, uint64_t size) {
    BlockingPort port;
    Content content = Content::Absent;
    const uint64_t end = offset + size;
    while (offset < end) {
        MappedExtent extent;
        const int status = run_waiting(port, source.map(port, offset, end - offset, extent));
        if (status < 0) {
            return Error::from_errno(-status, fmt::format("mapping {}", source.path()));
        }
        if (extent.kind == ExtentKind::Zero) {
            content = content == Content::Absent ? Content::Zero : content;
        } else if (extent.kind != ExtentKind::Unallocated) {
            return Content::Data;
        }
        if (extent.size == 0) {
            return Error::internal("a stretch of {} without a size", source.path());
        }
        offset += extent.size;
    }
    return content;
}

}  // namespace

DiskCopy::DiskCopy(std::vector<Disk> disks, size_t slots) : slots_(slots) {
    for (Disk& disk : disks) {
        Item item;
        item.size = disk.image->size();
        item.disk = std::move(disk);
        total_ += item.size;
        items_.push_back(std::move(item));
    }
}

DiskCopy::~DiskCopy() {
    for (const Item& item : items_) {
        item.disk.image->stop_tracking();
    }
}

Result<void> DiskCopy::begin() {
    for (Item& item : items_) {
        item.source = TRY(item.disk.image->open_source());
        item.marks = &item.disk.image->track_changes();
        item.pending = hypervisor::PageBitmap(item.marks->pages());
        item.pending.set_all();
    }
    for (Slot& slot : slots_) {
        if (!slot.buffer.allocate(kDiskFrameGranules * kGranule)) {
            return Error::exhausted("no memory to copy disks with");
        }
    }
    return {};
}

void DiskCopy::collect() {
    const std::lock_guard lock(mutex_);
    for (Item& item : items_) {
        item.marks->take_into(item.pending);
    }
}

void DiskCopy::start_round() {
    const std::lock_guard lock(mutex_);
    current_ = 0;
    for (Item& item : items_) {
        item.cursor = 0;
    }
}

uint64_t DiskCopy::remaining() const {
    const std::lock_guard lock(mutex_);
    uint64_t granules = 0;
    for (const Item& item : items_) {
        granules += item.pending.count();
    }
    return granules * kGranule;
}

// A granule leaves the set before it is read: what changes it meanwhile marks it again.
bool DiskCopy::next_piece(Piece& piece) {
    const std::lock_guard lock(mutex_);
    for (; current_ < items_.size(); ++current_) {
        Item& item = items_[current_];
        const auto run = item.pending.next_run(item.cursor, kDiskFrameGranules);
        if (run) {
            piece = {current_, run->first, run->count, item.first_round};
            item.cursor = run->first + run->count;
            item.pending.clear(run->first, run->count);
            return true;
        }
        item.first_round = false;
    }
    return false;
}

Result<uint64_t> DiskCopy::send_some(size_t slot, StreamSocket& stream, uint32_t round) {
    Piece piece;
    while (next_piece(piece)) {
        if (const uint64_t bytes = TRY(send_piece(slots_[slot], piece, stream, round))) {
            return bytes;
        }
    }
    return 0;
}

Result<void> DiskCopy::read(Item& item, uint64_t offset, std::span<std::byte> bytes) {
    BlockingPort port;
    const iovec vector{bytes.data(), bytes.size()};
    const int status =
        run_waiting(port, item.source->read(port, offset, std::span(&vector, 1), bytes.size()));
    if (status < 0) {
        return Error::from_errno(-status,
                                 fmt::format("reading {} at {}", item.disk.image->name(), offset));
    }
    return {};
}

// 0: there was nothing to send.
Result<uint64_t> DiskCopy::send_piece(Slot& slot, const Piece& piece, StreamSocket& stream,
                                      uint32_t round) {
    Item& item = items_[piece.disk];
    std::vector<PageRun> runs;
    std::vector<iovec> vectors(2);
    FrameHeader header;
    for (uint64_t granule = piece.first; granule < piece.first + piece.count; ++granule) {
        const uint64_t offset = granule * kGranule;
        const uint64_t size = std::min(kGranule, item.size - offset);
        const Content content = TRY(content_of(*item.source, offset, size));
        if (content == Content::Absent && piece.first_round) {
            continue;
        }
        const std::span bytes(slot.buffer.data() + (granule - piece.first) * kGranule, size);
        RunKind kind = RunKind::Zero;
        if (content != Content::Zero) {
            TRY(read(item, offset, bytes));
            kind = all_zero(bytes) ? RunKind::Zero : RunKind::Data;
        }
        runs.push_back({granule, 1, kind});
        if (kind == RunKind::Data) {
            vectors.push_back({bytes.data(), bytes.size()});
            header.payload += static_cast<uint32_t>(bytes.size());
        }
    }
    if (runs.empty()) {
        return 0;
    }
    header.type = FrameType::Disk;
    header.runs = static_cast<uint16_t>(runs.size());
    header.round = round;
    header.number = piece.disk;
    encode_runs(runs, slot.table);
    auto head = header.encode();
    vectors[0] = {head.data(), head.size()};
    vectors[1] = {slot.table.data(), slot.table.size()};
    TRY(stream.send(std::span(vectors)));
    return head.size() + slot.table.size() + header.payload;
}

}  // namespace kumoi::migration
